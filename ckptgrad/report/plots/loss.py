"""The loss of a training, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptgrad.report.plots.style import axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckptgrad.results.training_run import TrainingRun


def plot_loss(run: TrainingRun, ax: Axes | None = None) -> Figure:
    """Nats per byte against steps.

    Args:
        run: what to draw.
        ax: matplotlib axes to draw on; None for a new figure.

    Returns:
        The figure.
    """
    figure, axes = axes_for(ax, 8.0, 3.4)
    axes.plot(range(1, len(run.losses) + 1), run.losses, color="#0072B2")
    axes.set(title="Loss of each step", xlabel="step", ylabel="nats a byte", ylim=(0, None))
    return figure
