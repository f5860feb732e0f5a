"""A training job: its budget, its steps, its validation and its sample."""

from __future__ import annotations

import sys

import jax.numpy as jnp
import pytest

from ckptgrad.errors import MissingExtraError, OptionError
from ckptgrad.request import Request
from ckptgrad.training import job
from ckptgrad.training.job import BUDGET_SHARE, Job, prepare
from ckptgrad.training.model import Shape

TEXT = b"to be or not to be, that is the question. " * 50
SHAPE = Shape(depth=2, width=8, heads=2, context=8)


@pytest.fixture(scope="module")
def training():
    trained = prepare(Job(SHAPE, TEXT, batch=4, steps=12, learning_rate=0.02, request=Request(budget="0.8x")))
    trained.run()
    return trained


@pytest.mark.slow
def test_losses_fall_step_by_step(training):
    assert len(training.losses) == 12
    assert training.losses[0] == pytest.approx(5.545, abs=0.1)  # log 256
    assert training.losses[-1] < training.losses[0] - 0.3


@pytest.mark.slow
def test_the_budget_is_kept(training):
    plan = training.gradient.plan
    assert training.gradient.peak_bytes <= plan.budget < training.reference.peak_bytes


@pytest.mark.slow
def test_a_sample_continues_the_prompt(training):
    assert training.sample(10, b"to be").startswith("to be")
    assert training.sample(10, b"to be") == training.sample(10, b"to be")


@pytest.mark.slow
def test_what_was_trained_is_validated_with_the_schedule_that_was_used(training):
    table = training.validate(repeats=1, meters=())
    assert table.passed
    assert table.budget == training.gradient.plan.budget
    assert table.rows[-1].name == training.gradient.plan.schedule.policy


@pytest.mark.slow
def test_without_a_budget_it_is_a_share_of_what_jax_takes():
    trained = prepare(Job(Shape(8, 16, 2, 32), TEXT, batch=8, steps=2))
    reference = trained.reference
    assert trained.gradient.plan.budget == reference.temporary_bytes // BUDGET_SHARE + reference.output_bytes
    steps = []
    trained.run(lambda step, loss: steps.append((step, loss)))
    assert steps == [*enumerate(trained.losses, 1)]


def test_steps_are_counted_and_the_gradient_is_followed(monkeypatch):
    """Of a model of four numbers, whose loss is the sum of their squares."""
    monkeypatch.setattr(job.model, "init_params", lambda shape, key: {"p": jnp.ones(4)})
    monkeypatch.setattr(job.model, "loss", lambda params, tokens, heads: jnp.sum(params["p"] ** 2))
    trained = prepare(Job(SHAPE, TEXT, batch=1, steps=5, learning_rate=0.1, request=Request(budget="min")))
    steps = []
    trained.run(lambda step, loss: steps.append((step, loss)))
    assert steps == [*enumerate(trained.losses, 1)]
    assert trained.losses[0] == 4
    assert trained.losses[-1] < 3.5


def test_a_job_that_cannot_begin_says_why(monkeypatch):
    with pytest.raises(OptionError, match="the text has 3 bytes, but a window takes 9"):
        prepare(Job(SHAPE, b"abc", batch=1, steps=1))
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ckptgrad\[train\]'"):
        prepare(Job(SHAPE, TEXT, batch=1, steps=1))
