"""A row of results: what ran and what was measured, as plain data whose names carry their units.

A name ends in its unit: `_bytes`, `_seconds`, `_ratio` (to the first row of the group), `_share` (a fraction of one),
`_states` (bytes divided by those of a loop's carried state). Anything else is a count, a word or a boolean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Value: TypeAlias = bool | int | float | str

_WORDS = ("run", "group", "note", "skipped")


@dataclass(frozen=True)
class Row:
    """The measurements of one run.

    Attributes:
        run: what ran, a peer or a setting; unique in its group.
        group: the rows it is compared with, for example those of a model or a size.
        values: what was measured, by name with unit.
        note: a remark.
        skipped: why it did not run; empty if it did.
    """

    run: str
    group: str = ""
    values: dict[str, Value] = field(default_factory=dict)
    note: str = ""
    skipped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As one flat JSON object, without empty strings."""
        words = {name: getattr(self, name) for name in _WORDS}
        return {name: text for name, text in words.items() if text} | self.values

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Row:
        """The row that `to_dict` wrote."""
        words = {name: data[name] for name in _WORDS if name in data}
        return cls(values={name: value for name, value in data.items() if name not in _WORDS}, **words)


def row(run: str, group: str = "", *, note: str = "", skipped: str = "", **values: Any) -> Row:
    """A row of measured values. Those that are None are left out, and NumPy scalars become Python's.

    Example:
        >>> row("jax.grad", "gelu", certified_bytes=2**20, budget_bytes=None).values
        {'certified_bytes': 1048576}
    """
    plain = {name: getattr(value, "item", lambda v=value: v)() for name, value in values.items() if value is not None}
    return Row(run, group, plain, note, skipped)
