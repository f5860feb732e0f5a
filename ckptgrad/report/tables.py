"""The look that all tables share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.table import Table

from ckptgrad.bytes import format_bytes

NOTHING = "-"


def budget_words(budget: int | None, least: bool = False) -> str:
    """How tables name a budget in bytes; `least`: the smallest plan was asked for, whatever its size."""
    if least:
        return "budget min"
    return "no budget" if budget is None else f"budget {format_bytes(budget)}"


def table_of(*columns: str, left: Sequence[str] = (), wrapped: Sequence[str] = ()) -> Table:
    """An empty table without lines.

    Args:
        columns: their headings.
        left: those of text; the others hold numbers and are aligned to the right.
        wrapped: those that may run over several lines.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        side: Literal["left", "right"] = "left" if name in left else "right"
        table.add_column(name, justify=side, no_wrap=name not in wrapped)
    return table


def two_columns() -> Table:
    """An empty table of names and descriptions."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    return grid
