"""A row of results: what ran, and what was found, as plain data whose names carry their units.

The end of a name is its unit: `_bytes`, `_seconds`, `_ratio` (against the first row of the group), `_share` (of one),
`_states` (bytes over those of a loop's carried state). All else is a count, a word, or yes and no.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Value: TypeAlias = bool | int | float | str

_WORDS = ("run", "group", "note", "skipped")


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        run: what ran, a peer or a setting; unique in its group.
        group: what it is compared within, for example a model or a size.
        values: what was found, by name with unit.
        note: a word on it.
        skipped: why there is nothing, where nothing was run.
    """

    run: str
    group: str = ""
    values: dict[str, Value] = field(default_factory=dict)
    note: str = ""
    skipped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As one flat JSON object, empty words left out."""
        words = {name: getattr(self, name) for name in _WORDS}
        return {name: text for name, text in words.items() if text} | self.values

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Row:
        """The row that `to_dict` wrote."""
        words = {name: data[name] for name in _WORDS if name in data}
        return cls(values={name: value for name, value in data.items() if name not in _WORDS}, **words)


def row(run: str, group: str = "", *, note: str = "", skipped: str = "", **values: Any) -> Row:
    """A row of what was found; what is None is left out, NumPy's scalars become Python's.

    Example:
        >>> row("jax.grad", "gelu", certified_bytes=2**20, budget_bytes=None).values
        {'certified_bytes': 1048576}
    """
    plain = {name: getattr(value, "item", lambda v=value: v)() for name, value in values.items() if value is not None}
    return Row(run, group, plain, note, skipped)
