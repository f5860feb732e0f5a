"""A training job: its budget, its steps, its validation and its sample."""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.errors import MissingExtraError, OptionError, ProcessesError
from ckptgrad.request import Request
from ckptgrad.training import job
from ckptgrad.training.job import BUDGET_SHARE, Job, prepare
from ckptgrad.training.model import Shape
from tests.support.processes import on_processes

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
    assert trained.gradient.budget == reference.temporary_bytes // BUDGET_SHARE + reference.output_bytes
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


class Interrupted(Exception):
    pass


def losses_of(saved=None, interrupted_at=None, **options):
    """Those of a model of four numbers; interrupted after a step, they are those of a second run that goes on."""

    def stop(step, loss):
        if step == interrupted_at:
            raise Interrupted

    options = {"batch": 8, "steps": 7, "learning_rate": 0.1, "request": Request(budget="min"), **options}
    small = Job(SHAPE, TEXT, save=saved, save_every=2, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job.model, "init_params", lambda shape, key: {"p": np.linspace(0, 1, 4)})
        patch.setattr(job.model, "loss", lambda params, tokens, heads: ((params["p"] - tokens[:, :4] / 256) ** 2).mean())
        trained = prepare(small)
        if interrupted_at is not None:
            with pytest.raises(Interrupted):
                trained.run(stop)
            trained = prepare(small)
            assert len(trained.losses) == interrupted_at // 2 * 2
        trained.run()
    return trained.losses


@pytest.mark.usefixtures("x64")
def test_a_training_that_was_interrupted_goes_on(tmp_path):
    whole, saved = losses_of(), tmp_path / "state.npz"
    assert len(whole) == 7
    assert losses_of(saved, interrupted_at=5) == whole
    assert losses_of(saved) == whole  # all of them saved
    with pytest.raises(OptionError, match=r"another training \(seed differ"):
        losses_of(saved, seed=3)


def test_a_state_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    def full(path, state):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(job, "save", full)
    with pytest.raises(OptionError, match=r"cannot write .*state\.npz: No space left on device"):
        losses_of(tmp_path / "state.npz")


def train_together(folder):
    """In one of several processes."""
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(losses_of(folder / "state.npz", interrupted_at=5)))
    with pytest.raises(OptionError, match="a batch of 3 cannot be divided among 2 devices"):
        losses_of(batch=3)
    # One host sees another file.
    with pytest.raises(ProcessesError, match=r"step 7 of .*the first step"):
        losses_of(folder / ("state.npz" if jax.process_index() == 0 else "none.npz"))
    assert [file.name for file in folder.iterdir()] == ["state.npz"]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_processes_train_like_one(tmp_path):
    """They add the losses of parts of a batch, so that bits may differ."""
    outputs = on_processes(2, __name__, f"import pathlib; train_together(pathlib.Path({str(tmp_path)!r}))")
    one, other = (json.loads(next(line for line in out.splitlines() if line.startswith("[0."))) for out in outputs)
    assert one == other
    np.testing.assert_allclose(one, losses_of(), rtol=1e-12)


def test_a_job_that_cannot_begin_says_why(monkeypatch):
    with pytest.raises(OptionError, match="the text has 3 bytes, but a window takes 9"):
        prepare(Job(SHAPE, b"abc", batch=1, steps=1))
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ckptgrad\[train\]'"):
        prepare(Job(SHAPE, TEXT, batch=1, steps=1))
