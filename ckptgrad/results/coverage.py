"""Which primitives are differentiated, which are not, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from ckptgrad.results.shown import Shown
from ckptgrad.rules.coverage import Coverage


@dataclass(frozen=True, repr=False)
class CoverageTable(Shown):
    """One row for each primitive."""

    rows: tuple[Coverage, ...]

    @property
    def statuses(self) -> list[tuple[str, int]]:
        """Each status with the number of primitives that have it, the most frequent first."""
        return Counter(row.status for row in self.rows).most_common()

    def to_dict(self) -> list[dict[str, Any]]:
        """The rows as plain data."""
        return [asdict(row) for row in self.rows]
