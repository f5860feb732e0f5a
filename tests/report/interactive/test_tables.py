"""Tables that are sorted and searched, in a browser."""

from __future__ import annotations

import pytest

from ckptgrad.report.interactive.tables import of_parts, width_of
from ckptgrad.report.page import page
from ckptgrad.report.tables import table_of
from tests.cases.results import COVERAGE
from tests.support.browser import opened, texts

# What has the focus, inside of whatever shadow roots.
FOCUSED = """() => {
  let element = document.activeElement
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement
  return element?.textContent ?? ""
}"""


def test_cells_are_those_of_the_report():
    table = table_of("name", "bytes", left=("name",))
    table.add_row("a", "1.0 KiB")
    shown = of_parts(table, "sizes")
    assert [column.title for column in shown.columns] == ["name", "bytes"]
    assert [list(cells) for cells in shown.source.data.values()] == [["a"], ["1.0 KiB"]]


def test_only_a_long_table_is_searched():
    table = table_of("name")
    for k in range(20):
        table.add_row(str(k))
    assert [model.name for model in of_parts(table, "numbers").children] == ["search", "table"]


def test_a_column_is_as_wide_as_its_longest_cell():
    assert width_of(["a", "b" * 40]) > width_of(["a" * 20, "b"]) > 20 * 6


@pytest.fixture
def rules(tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page("rules", {"Rules": COVERAGE}))
    return file


@pytest.mark.slow
def test_a_click_on_a_heading_sorts_and_a_word_finds(rules):
    with opened(rules) as shown:
        first = texts(shown, ".slick-row .slick-cell.l0")
        shown.get_by_text("primitive", exact=True).last.click()
        ordered = texts(shown, ".slick-row .slick-cell.l0")
        assert sorted(first) == sorted(ordered)
        assert first != ordered


@pytest.mark.slow
def test_the_keyboard_reaches_a_heading_and_sorts_by_it(rules):
    with opened(rules) as shown:
        first = texts(shown, ".slick-row .slick-cell.l0")
        focused = ""
        for _ in range(40):
            shown.keyboard.press("Tab")
            focused = shown.evaluate(FOCUSED)
            if focused.strip() == "primitive":
                break
        assert focused.strip() == "primitive"
        shown.keyboard.press("Enter")
        ordered = texts(shown, ".slick-row .slick-cell.l0")
        assert sorted(first) == sorted(ordered)
        assert first != ordered
