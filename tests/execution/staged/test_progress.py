"""Progress is told to nobody, to a function, or shown as a bar."""

from __future__ import annotations

from ckptgrad.execution.staged.progress import shown


def test_nobody_is_told():
    with shown(False) as tell:
        assert tell is None


def test_a_function_is_told():
    told = []
    with shown(lambda done, count: told.append((done, count))) as tell:
        tell(1, 3)
    assert told == [(1, 3)]


def test_a_bar_goes_to_standard_error(capsys):
    with shown(True) as tell:
        tell(1, 3)
    assert capsys.readouterr().out == ""
