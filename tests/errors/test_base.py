"""Values in messages are short, whatever they are."""

from __future__ import annotations

from ckptgrad.errors.base import brief, near_miss


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_a_value_is_brief_whatever_its_size_and_however_it_prints():
    assert brief("a lot") == "'a lot'"
    assert brief("x" * 1000) == f"'{'x' * 199}..."
    assert brief(Silent()) == "of type Silent"


def test_the_name_that_was_meant():
    assert near_miss("cost", ["policy", "costs"]) == "costs"
    assert near_miss("dots", ["nothing_saveable", "dots_saveable"]) == "dots_saveable"
    assert near_miss("zzz", ["policy"]) is None
