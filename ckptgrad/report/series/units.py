"""The unit in which a figure counts bytes."""

from __future__ import annotations

from typing import NamedTuple


class Unit(NamedTuple):
    """Its name, and how many bytes it has."""

    name: str
    bytes: int


UNITS = (Unit("bytes", 1), Unit("KiB", 2**10), Unit("MiB", 2**20), Unit("GiB", 2**30), Unit("TiB", 2**40))


def unit_for(highest: float) -> Unit:
    """The largest unit of which the highest value of an axis has at least two."""
    return max((unit for unit in UNITS if unit.bytes * 2 <= highest), key=lambda unit: unit.bytes, default=UNITS[0])
