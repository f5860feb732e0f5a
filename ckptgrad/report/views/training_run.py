"""A training, as text and a picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from ckptgrad.report import registry
from ckptgrad.report.plots.loss import plot_loss
from ckptgrad.results.training_run import TrainingRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@registry.parts.register(TrainingRun)
def parts(run: TrainingRun) -> list[RenderableType]:
    """The first and the last loss, and the text."""
    went = f"loss {run.losses[0]:.3f} -> {run.losses[-1]:.3f} nats a byte in {len(run.losses)} steps"
    return [Text(went), Text(f"sampled: {run.sample}")]


@registry.figures.register(TrainingRun)
def figures(run: TrainingRun) -> dict[str, Callable[..., Figure]]:
    """The loss of each step."""
    return {"loss": partial(plot_loss, run)}
