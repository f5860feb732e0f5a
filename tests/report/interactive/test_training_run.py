"""The interactive curve of a training."""

from __future__ import annotations

from ckptgrad.report.interactive.training_run import interactive
from ckptgrad.results.training_run import TrainingRun


def test_each_step_can_be_pointed_at():
    (line,) = interactive(TrainingRun((3.0, 2.0, 1.5), ""))["loss"]().root.renderers
    assert line.data_source.data == {"step": [1, 2, 3], "loss": [3.0, 2.0, 1.5]}
