"""A training as text."""

from __future__ import annotations

from ckptgrad.report.views.training_run import figures
from ckptgrad.results.training_run import TrainingRun

RUN = TrainingRun((3.0, 2.0, 1.5), "The [end]")


def test_the_losses_and_the_text():
    assert str(RUN).splitlines() == ["loss 3.000 -> 1.500 nats a byte in 3 steps", "", "sampled: The [end]"]


def test_the_curve_is_a_figure():
    assert list(figures(RUN)) == ["loss"]
