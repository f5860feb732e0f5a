"""Values in messages are short, whatever they are."""

from __future__ import annotations

from ckptgrad.errors.base import brief


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_a_value_is_brief_whatever_its_size_and_however_it_prints():
    assert brief("a lot") == "'a lot'"
    assert brief("x" * 1000) == f"'{'x' * 199}..."
    assert brief(Silent()) == "of type Silent"
