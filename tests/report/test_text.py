"""Parts of a report as plain text."""

from __future__ import annotations

from rich.text import Text

from ckptgrad.report.text import WIDTH, to_text


def test_parts_are_separated_and_nothing_trails():
    assert to_text(["one   ", "two", Text("three")]) == "one\n\ntwo\n\nthree"
    assert to_text([]) == ""


def test_no_colour_and_no_markup():
    assert to_text([Text("red", style="red"), "[red]x[/red] :smile:"]) == "red\n\n[red]x[/red] :smile:"


def test_lines_are_wrapped_at_the_width():
    assert max(map(len, to_text(["word " * 100]).splitlines())) <= WIDTH
    assert to_text(["one two"], width=4) == "one\ntwo"
