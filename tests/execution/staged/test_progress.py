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


def test_a_bar_goes_to_standard_error_of_a_terminal_alone(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for where, forced in (("file", "0"), ("terminal", "1")):
        monkeypatch.setenv("TTY_INTERACTIVE", forced)
        monkeypatch.setenv("TTY_COMPATIBLE", forced)
        with shown(True) as tell:
            tell(1, 3)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert ("gradient" in printed.err) == (where == "terminal")
        assert printed.err == "" or where == "terminal"
