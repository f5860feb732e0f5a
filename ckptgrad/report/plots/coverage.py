"""Which primitives are differentiated: a bar for each status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.report.plots.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ckptgrad.results.coverage import CoverageTable


def plot_coverage(coverage: CoverageTable) -> Figure:
    """How many primitives there are of each status.

    Returns:
        The figure.
    """
    figure, (ax,) = new_figure(7.0, 2.4)
    names, counts = zip(*reversed(coverage.statuses), strict=True)
    ax.bar_label(ax.barh(names, counts, 0.6, color="#0072B2"), padding=4)
    ax.grid(visible=False)
    ax.set(xlabel="primitives", xlim=(0, 1.1 * max(counts)))
    return figure
