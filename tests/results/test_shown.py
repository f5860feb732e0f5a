"""Results hand themselves to the renderer, in every way to show them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ckptgrad.report.renderer import RENDERER
from ckptgrad.results.shown import Shown


@dataclass(frozen=True, repr=False)
class Answer(Shown):
    number: int


class Recording:
    """A renderer that says what it was asked for."""

    def text(self, result):
        return f"text of {result.number}"

    def html(self, result):
        return f"html of {result.number}"

    def figures(self, result):
        return {"figure": result.number}

    def diagram(self, result):
        return f"diagram of {result.number}"


class Printer:
    def __init__(self):
        self.said = []

    def text(self, text):
        self.said.append(text)


@pytest.fixture(autouse=True)
def renderer():
    Shown.use(Recording())
    yield
    Shown.use(RENDERER)


def test_text_at_a_prompt_and_in_notebooks():
    answer, printer = Answer(3), Printer()
    assert str(answer) == repr(answer) == "text of 3"
    assert answer._repr_html_() == "html of 3"
    answer._repr_pretty_(printer, False)
    answer._repr_pretty_(printer, True)
    assert printer.said == ["text of 3", "..."]


def test_what_can_be_drawn():
    assert Answer(3).figures() == {"figure": 3}
