"""A validation as bars: peaks by each meter on top, times below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.bytes import format_bytes
from ckptgrad.meters.meter import meters
from ckptgrad.report.plots.style import BUDGET_COLOUR, MIB, legend_beside, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ckptgrad.results.validation import Validation

_STYLES = (("#0072B2", ""), ("#E69F00", "//"), ("#999999", ".."), ("#56B4E9", "xx"))


def plot_validation(validation: Validation) -> Figure:
    """Peaks beyond the arguments, and times relative to jax.grad; one group of bars per row.

    Returns:
        The figure.
    """
    rows = [row for row in validation.rows if row.feasible]
    names = list(dict.fromkeys(name for row in rows for name, reading in row.readings.items() if reading.bytes is not None))
    figure, (above, below) = new_figure(9.0, 5.4, rows=2)
    width = 0.8 / max(1, len(names))
    known = meters()
    for k, name in enumerate(names):
        colour, hatch = _STYLES[k % len(_STYLES)]
        bytes_ = [(row.readings[name].bytes or 0) / MIB if name in row.readings else 0 for row in rows]
        places = [i - 0.4 + (k + 0.5) * width for i in range(len(rows))]
        above.bar(places, bytes_, width * 0.95, color=colour, hatch=hatch, edgecolor="#44444488", linewidth=0,
                  label=known[name].label)  # fmt: skip
    if validation.budget is not None:
        label = f"budget {format_bytes(validation.budget)}"
        above.axhline(validation.budget / MIB, linestyle="-.", color=BUDGET_COLOUR, linewidth=1.2, label=label)
    above.set_ylabel("peak, MiB")
    legend_beside(above)
    below.bar(range(len(rows)), [row.time_ratio or 0 for row in rows], 0.5, color="#999999")
    below.axhline(1.0, color="#000000", linewidth=0.8, linestyle=":")
    below.set_ylabel("time relative to jax.grad")
    below.set_xticks(range(len(rows)), [row.name for row in rows])
    return figure
