"""A validation as bars: peaks by each meter, and times relative to `jax.grad`, one place for each row."""

from __future__ import annotations

from dataclasses import dataclass

from ckptgrad.meters.meter import meters
from ckptgrad.results.validation import Validation

# By the order of the meters: colour and hatch.
STYLES = (("#0072B2", ""), ("#E69F00", "//"), ("#999999", ".."), ("#56B4E9", "xx"))


@dataclass(frozen=True)
class ValidationSeries:
    """What is drawn of a validation: of the rows that are feasible.

    Attributes:
        rows: their names.
        peaks: bytes by the label of the meter, for each row.
        ratios: times relative to jax.grad; 0 where nothing was run.
        styles: colour and hatch by the label of the meter.
    """

    rows: list[str]
    peaks: dict[str, list[int]]
    ratios: list[float]
    styles: dict[str, tuple[str, str]]


def validation_series(validation: Validation) -> ValidationSeries:
    """The bars of a validation."""
    rows, known = [row for row in validation.rows if row.feasible], meters()
    names = list(dict.fromkeys(name for row in rows for name, reading in row.readings.items() if reading.bytes is not None))
    peaks = {
        known[name].label: [(row.readings[name].bytes or 0) if name in row.readings else 0 for row in rows] for name in names
    }
    styles = {label: STYLES[k % len(STYLES)] for k, label in enumerate(peaks)}
    return ValidationSeries([row.name for row in rows], peaks, [row.time_ratio or 0 for row in rows], styles)
