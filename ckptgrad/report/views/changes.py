"""What differs between two results, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ckptgrad.bytes import format_bytes
from ckptgrad.graph.naming import counted
from ckptgrad.report import registry
from ckptgrad.report.tables import NOTHING, table_of
from ckptgrad.results.changes import Change, Changes

MOST_ROWS = 24


@registry.parts.register(Changes)
def parts(changes: Changes) -> list[RenderableType]:
    """The totals, what is held at the peak, and the stages to which something else happens."""
    if changes.is_empty:
        return [Text(f"the same {changes.kind}: nothing differs")]
    head = f"what differs between two results, each a {changes.kind}"
    if changes.seconds is not None and changes.seconds[0]:
        head += f"; the second takes {changes.seconds[1] / changes.seconds[0]:.2f} times the estimated time"
    shown: list[RenderableType] = [Text(head), _bytes("", changes.totals)]
    if held := [change for change in changes.held if _shows(change)]:
        shown.append(_bytes("held at the peak", held))
    before, after = changes.stage_counts
    if before != after:
        shown.append(Text(f"{counted(before, 'stage')} before, {after} after"))
    return [*shown, _stages(changes)] if changes.stages else shown


def _shows(change: Change) -> bool:
    """Whether it is no difference below a thousandth between two sizes that are written alike."""
    alike = format_bytes(change.before) == format_bytes(change.after)
    return not alike or 1000 * abs(change.by) >= max(change.before, change.after)


def _bytes(name: str, rows: Sequence[Change]) -> Table:
    table = table_of(name, "before", "after", "by", "", left=(name, ""), wrapped=(name,))
    for row in rows[:MOST_ROWS]:
        sizes = (format_bytes(size) if size else NOTHING for size in (row.before, row.after))
        by = f"{'+' if row.by > 0 else '-'}{format_bytes(abs(row.by))}" if row.by else NOTHING
        table.add_row(row.name, *sizes, by, "" if row.what == "stayed" else row.what)
    if len(rows) > MOST_ROWS:
        table.add_row(f"... and {len(rows) - MOST_ROWS} more rows")
    return table


def _stages(changes: Changes) -> Table:
    table = table_of("stage", "source", "before", "after", left=("stage", "source", "before", "after"), wrapped=("source",))
    for row in changes.stages[:MOST_ROWS]:
        table.add_row(str(row.stage), row.place, row.before, row.after)
    if len(changes.stages) > MOST_ROWS:
        table.add_row(f"... and {len(changes.stages) - MOST_ROWS} more rows")
    return table
