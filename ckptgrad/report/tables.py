"""The look that all tables share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.table import Table

from ckptgrad.bytes import format_bytes

NOTHING = "-"
# Arguments that are named one by one.
MOST_ARGUMENTS = 6


def budget_words(budget: int | None, least: bool = False, source: str = "") -> str:
    """How tables name a budget in bytes.

    Args:
        budget: the bytes.
        least: whether the smallest plan was asked for, whatever its size.
        source: what the bytes are taken from, in words.
    """
    if least:
        return "budget min"
    return "no budget" if budget is None else f"budget {format_bytes(budget)}" + (f" ({source})" if source else "")


def need_words(arguments: Mapping[str, int], peak: int) -> str:
    """The whole need of a device: the arguments, the largest first, and all with what a call adds at its peak.

    Example:
        >>> need_words({"x": 1024, "params": 2048}, 1024)
        'params 2.0 KiB, x 1.0 KiB; 4.0 KiB with the peak'
    """
    largest = sorted(arguments.items(), key=lambda item: -item[1])
    words = [f"{name} {format_bytes(size)}" for name, size in largest[:MOST_ARGUMENTS]]
    if rest := largest[MOST_ARGUMENTS:]:
        words.append(f"{len(rest)} more {format_bytes(sum(size for _, size in rest))}")
    return f"{', '.join(words) or 'none'}; {format_bytes(sum(arguments.values()) + peak)} with the peak"


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


def ranges(stages: Sequence[int]) -> str:
    """Numbers, with consecutive ones written as ranges: "0, 2 .. 9"."""
    runs: list[list[int]] = []
    for stage in stages:
        if runs and stage == runs[-1][1] + 1:
            runs[-1][1] = stage
        else:
            runs.append([stage, stage])
    words = [str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a} .. {b}" for a, b in runs]
    return ", ".join(words[:4] + ["..."] if len(words) > 4 else words)
