"""The loss of a training: each step under the pointer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bokeh.models import ColumnDataSource

from ckptgrad.report import registry
from ckptgrad.report.interactive.looks import Drawn, hover, new_figure
from ckptgrad.results.training_run import TrainingRun

HEIGHT = 320
CAPTION = "The loss of each step, in nats a byte. Point at the line for a step; drag to move, Ctrl and the wheel to zoom."


@registry.interactive.register(TrainingRun)
def interactive(run: TrainingRun) -> dict[str, Callable[[], Drawn]]:
    """The loss of each step."""
    return {"loss": partial(_drawn, run)}


def _drawn(run: TrainingRun) -> Drawn:
    source = ColumnDataSource({"step": [*range(1, len(run.losses) + 1)], "loss": [*run.losses]})
    shown = new_figure(HEIGHT, "Loss of each step", name="loss")
    line = shown.line("step", "loss", source=source, line_color="#0072B2", line_width=2)
    shown.add_tools(hover([line], "<div>step @step<br><b>@loss{0.000}</b> nats a byte</div>"))
    shown.xaxis.axis_label, shown.yaxis.axis_label = "step", "nats a byte"
    return Drawn(shown, CAPTION)
