"""Parts of a report as HTML, for notebooks and pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ckptgrad.report.text import to_text

# The class is written twice to outweigh the notebook's own style for tables of numbers, which is as specific as one class.
STYLE = (
    "<style>.ckptgrad.ckptgrad table{border-collapse:collapse;margin:.5em 0;font-variant-numeric:tabular-nums}"
    ".ckptgrad.ckptgrad th,.ckptgrad.ckptgrad td{padding:.15em .8em .15em 0;border:0;text-align:left;vertical-align:top;"
    "white-space:nowrap}.ckptgrad.ckptgrad th{border-bottom:1px solid currentColor}"
    ".ckptgrad.ckptgrad .right.right{text-align:right}.ckptgrad.ckptgrad pre{font-family:monospace;line-height:1.15}"
    ".ckptgrad p{margin:.4em 0;white-space:pre-line}.ckptgrad img{max-width:100%}</style>"
)


def to_html(parts: Sequence[RenderableType], *more: str) -> str:
    """Parts that rich can show, followed by more HTML, in one element; its style comes before it."""
    return STYLE + fragment(parts, *more)


def fragment(parts: Sequence[RenderableType], *more: str) -> str:
    """The element without its style."""
    return f'<div class="ckptgrad">{"".join([*map(_part, parts), *more])}</div>'


def _part(part: RenderableType) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, (str, Text)) and not getattr(part, "no_wrap", False):
        return f"<p>{_words(part)}</p>" if str(part) else ""
    return f"<pre>{escape(to_text([part]))}</pre>"


def _words(text: str | Text) -> str:
    """A text in which what is bold stays so."""
    bold = [(s.start, s.end) for s in text.spans if "bold" in str(s.style)] if isinstance(text, Text) else []
    words, done = "", 0
    for start, end in sorted(bold):
        words += f"{escape(str(text)[done:start])}<strong>{escape(str(text)[start:end])}</strong>"
        done = end
    return words + escape(str(text)[done:])


class PlainColumn(NamedTuple):
    """A column of a table as text, and whether it is aligned to the right."""

    header: str
    cells: list[str]
    right: bool


def plain_columns(table: Table) -> list[PlainColumn]:
    """The columns of a table that rich can show."""
    return [
        PlainColumn(str(column.header), [_plain(cell) for cell in column.cells], column.justify == "right")
        for column in table.columns
    ]


def _table(table: Table) -> str:
    columns = plain_columns(table)
    sides = [' class="right"' if column.right else "" for column in columns]
    head = ""
    if any(column.header for column in columns):
        cells = "".join(f"<th{side}>{escape(c.header)}</th>" for c, side in zip(columns, sides, strict=True))
        head = f"<thead><tr>{cells}</tr></thead>"
    rows = zip(*(column.cells for column in columns), strict=True)
    body = "".join(
        f"<tr>{''.join(f'<td{side}>{escape(cell)}</td>' for cell, side in zip(row, sides, strict=True))}</tr>"
        for row in rows
    )
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _plain(cell: RenderableType) -> str:
    return str(cell) if isinstance(cell, (str, Text)) else to_text([cell])
