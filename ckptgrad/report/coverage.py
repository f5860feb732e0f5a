"""Which primitives are differentiated, as a table and a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ckptgrad.report.shown import Shown

if TYPE_CHECKING:
    from ckptgrad.rules.coverage import Coverage


@dataclass(frozen=True, repr=False)
class CoverageReport(Shown):
    """A row for each primitive."""

    rows: tuple[Coverage, ...]

    def to_dict(self) -> list[dict[str, Any]]:
        """The rows as plain data."""
        return [asdict(row) for row in self.rows]

    def report_parts(self) -> list[RenderableType]:
        """How many there are of each status, and the table of primitives."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("primitive", "status", "how"):
            table.add_column(name, no_wrap=name != "how")
        for row in self.rows:
            table.add_row(row.primitive, row.status, row.how)
        public = sum(row.public for row in self.rows)
        head = f"{len(self.rows)} primitives, {public} of them in jax.extend.core.primitives: "
        return [Text(head + ", ".join(f"{n} {status}" for status, n in self._statuses())), table]

    def figures(self) -> dict[str, Callable[[], Any]]:
        """How many there are of each status."""
        return {"coverage": self._draw}

    def _statuses(self) -> list[tuple[str, int]]:
        return Counter(row.status for row in self.rows).most_common()

    def _draw(self) -> Any:
        from ckptgrad.report.plots.style import new_figure

        figure, ax = new_figure(7.0, 2.4)
        names, counts = zip(*reversed(self._statuses()), strict=True)
        ax.bar_label(ax.barh(names, counts, 0.6, color="#0072B2"), padding=4)
        ax.grid(visible=False)
        ax.set(xlabel="primitives", xlim=(0, 1.1 * max(counts)))
        return figure
