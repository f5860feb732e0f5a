"""The curve has each step's loss."""

from __future__ import annotations

from ckptgrad.report.plots.loss import plot_loss
from ckptgrad.results.training_run import TrainingRun


def test_each_step_is_a_point():
    (line,) = plot_loss(TrainingRun((3.0, 2.0, 1.5), "")).axes[0].lines
    assert line.get_xydata().tolist() == [[1, 3.0], [2, 2.0], [3, 1.5]]
