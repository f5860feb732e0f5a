"""Tables that are sorted by a click on a heading; the cells are text, and are compared as what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bokeh.layouts import column
from bokeh.models import (
    CDSView,
    ColumnDataSource,
    CustomJSCompare,
    DataTable,
    IndexFilter,
    StringFormatter,
    TableColumn,
    TextInput,
    UIElement,
)
from rich.table import Table

from ckptgrad.report.html import plain_columns
from ckptgrad.report.interactive.looks import script, text_of

ROW_HEIGHT, MOST_ROWS = 25, 14
LETTER = 6.0  # pixels
SEARCHED_FROM = 8  # rows


class Column(NamedTuple):
    """A column: the field of its cells, its heading, its width in pixels, and whether it holds numbers."""

    field: str
    title: str
    width: int
    right: bool = False


def data_table(
    columns: Sequence[Column],
    source: ColumnDataSource,
    name: str,
    label: str,
    view: CDSView | None = None,
    rows: int = MOST_ROWS,
) -> DataTable:
    """A table as wide as its columns, or as the page, with bars to see the rest; `rows` of them are seen at once."""
    compare = CustomJSCompare(code=text_of("compare.js"))
    return DataTable(
        columns=[
            TableColumn(
                field=c.field, title=c.title, width=c.width, sorter=compare,
                formatter=StringFormatter(text_align="right" if c.right else "left"),
            )
            for c in columns
        ],
        source=source,
        view=view or CDSView(),
        index_position=None,
        row_height=ROW_HEIGHT,
        height=ROW_HEIGHT * (min(rows, MOST_ROWS) + 2),
        sizing_mode="stretch_width",
        autosize_mode="none",
        selectable=True,
        name=name,
        html_attributes={"role": "region", "aria-label": label},
    )  # fmt: skip


def of_parts(table: Table, label: str) -> UIElement:
    """A table of a report; one with more than a few rows can be searched."""
    cells = plain_columns(table)
    columns = [Column(f"c{k}", c.header, width_of([c.header, *c.cells]), c.right) for k, c in enumerate(cells)]
    source = ColumnDataSource({c.field: list(own.cells) for c, own in zip(columns, cells, strict=True)})
    rows = table.row_count
    found = IndexFilter(indices=[*range(rows)])
    shown = data_table(columns, source, "table", label, CDSView(filter=found), rows)
    if rows < SEARCHED_FROM:
        return shown
    search = TextInput(placeholder="search", name="search", width=340)
    search.js_on_change("value_input", script("search.js", search=search, cells=source, rows=found))
    return column(search, shown, sizing_mode="stretch_width")


def width_of(cells: Sequence[str]) -> int:
    """Pixels that the longest of a heading and its cells takes, with the mark of what is sorted."""
    return round(LETTER * max(len(cells[0]) + 2, *map(len, cells))) + 14
