"""A training job: plan, certify, train, validate, sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.errors import MissingExtraError, OptionError
from ckptgrad.execution.certified import Certified
from ckptgrad.request import Request
from ckptgrad.target.allocated import Memory
from ckptgrad.training import model
from ckptgrad.training.data import Data
from ckptgrad.training.saved import Saved, load, save
from ckptgrad.validation import Validation, reference_memory, validate

if TYPE_CHECKING:
    from optax import GradientTransformation

BUDGET_SHARE = 4  # the default budget allows a quarter of jax.grad's temporaries
CLIP_NORM = 1.0
WARMUP_SHARE = 10  # the first tenth of the steps is warm-up


@dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        shape: the sizes of the model.
        text: the bytes to train on.
        batch: windows per step.
        steps: number of steps.
        request: what is asked of the gradient; with no budget, a quarter of the temporaries of `jax.grad` plus the outputs.
        learning_rate: the highest rate of the schedule.
        seed: for parameters, data and sample.
        save: the file in which the state of the training is kept, and from which it goes on; None for none.
        save_every: steps after which it is written; it also is after the last.
    """

    shape: model.Shape
    text: bytes
    batch: int
    steps: int
    request: Request = field(default_factory=Request)
    learning_rate: float = 2e-3
    seed: int = 0
    save: Path | None = None
    save_every: int = 25

    @property
    def described(self) -> dict[str, Any]:
        """What a saved state must have been made by, as plain data."""
        text = hashlib.sha256(self.text).hexdigest()
        sizes = {"batch": self.batch, "steps": self.steps, "learning rate": self.learning_rate, "seed": self.seed}
        return {**asdict(self.shape), **sizes, "text": text}


@dataclass
class Training:
    """A job in progress.

    Attributes:
        job: what to train.
        data: the batches, and where the arrays of a step lie.
        params: the current parameters.
        optimiser: an optax transformation.
        optimiser_state: its current state.
        reference: what `jax.grad` would allocate.
        gradient: ckptgrad's value and gradient, compiled within the budget.
        losses: one per step, in nats per byte; those of the steps before the training was interrupted included.
    """

    job: Job
    data: Data
    params: model.Params
    optimiser: GradientTransformation
    optimiser_state: Any
    reference: Memory
    gradient: Certified
    losses: list[float] = field(default_factory=list)

    @property
    def loss_function(self) -> Callable:
        return partial(model.loss, heads=self.job.shape.heads)

    def run(self, on_step: Callable[[int, float], object] = lambda step, loss: None) -> None:
        """Train. `on_step(step, loss)` is called after each step; steps are counted from 1.

        Raises:
            OptionError: the state cannot be written.
        """
        optax = _optax()

        @partial(jax.jit, donate_argnums=(0, 1))
        def update(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
            change, state = self.optimiser.update(gradient, state, params)
            return optax.apply_updates(params, change), state

        done, steps = len(self.losses), self.job.steps
        for step, tokens in enumerate(islice(self.data.batches(), done, steps), done + 1):
            loss, gradient = self.gradient(self.params, tokens)
            self.params, self.optimiser_state = update(self.params, self.optimiser_state, gradient)
            self.losses.append(float(loss))
            if step == steps or step % self.job.save_every == 0:
                self._save()
            on_step(step, self.losses[-1])

    def _save(self) -> None:
        if self.job.save is None or not self.data.processes.is_first:
            return
        leaves = [self.data.here(x) for x in jax.tree.leaves((self.params, self.optimiser_state))]
        try:
            save(self.job.save, Saved(self.job.described, self.losses, [np.asarray(x) for x in leaves]))
        except OSError as error:
            raise OptionError(f"cannot write {error.filename or self.job.save}: {error.strerror or error}") from None

    def resume(self) -> None:
        """Take up what was saved, if something was.

        Raises:
            OptionError: what was saved is of another job.
            ProcessesError: processes see different files.
        """
        if self.job.save is None:
            return
        leaves, tree = jax.tree.flatten((self.params, self.optimiser_state))
        path, processes = self.job.save, self.data.processes
        saved = load(path, self.job.described, leaves)
        # Processes of other hosts may see another file, or none.
        processes.each(f"step {len(saved.losses)} of {saved.digest[:12]}" if saved else "the first step", lambda: None)
        if saved is not None:
            self.losses = [*saved.losses]
            self.params, self.optimiser_state = jax.tree.unflatten(tree, map(self.data.everywhere, saved.leaves))

    def validate(
        self,
        repeats: int = 3,
        meters: str | Sequence[str] = ("resident",),
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Validation:
        """Cross-check the schedule used in training, on the trained parameters; processes do it together, without meters."""
        plan, request = self.gradient.plan, self.job.request
        staged = not isinstance(self.gradient.executable, jax.stages.Compiled)
        tokens = next(self.data.batches())
        return validate(
            self.loss_function,
            self.params,
            tokens,
            budget=plan.budget,
            policies=[plan.schedule],
            runtime="staged" if staged else "compiled",
            tiers=request.tiers if staged else request.as_one_program.tiers,
            repeats=repeats,
            meters=meters,
            on_progress=on_progress,
        )

    def sample(self, count: int, prompt: bytes) -> str:
        """The prompt, continued by `count` sampled bytes."""
        params = jax.tree.map(self.data.here, self.params)
        continuation = model.continuation(params, self.job.shape, prompt, jax.random.key(self.job.seed))
        return (prompt + bytes(islice(continuation, count))).decode(errors="replace")


def _optax() -> ModuleType:
    try:
        import optax
    except ImportError:
        raise MissingExtraError("training", "optax", "train") from None
    return optax


def prepare(job: Job) -> Training:
    """Initialise parameters and optimiser or take up what was saved, and compile the gradient within the budget.

    The processes that `jax.distributed` has joined share the work: each gets its part of every batch.

    Raises:
        BudgetError: the budget is below the smallest peak that the policy reaches.
        OptionError: the text is too short, the batch cannot be divided, or what was saved is of another job.
        MissingExtraError: optax is not installed.
        ProcessesError: processes do not do the same.
    """
    optax = _optax()
    data = Data.of(job.text, job.batch, job.shape.context + 1, job.seed)
    tokens = next(data.batches())
    params = jax.tree.map(data.everywhere, model.init_params(job.shape, jax.random.key(job.seed)))
    loss = partial(model.loss, heads=job.shape.heads)
    reference = data.processes.first("the bytes of jax.grad", lambda: reference_memory(loss, params, tokens))
    request = job.request
    if request.budget is None:
        request = replace(request, budget=reference.temporary_bytes // BUDGET_SHARE + reference.output_bytes)
    gradient = GradientFunction(loss, request, with_value=True).compile(params, tokens)
    warmup = max(1, job.steps // WARMUP_SHARE)
    rate = optax.warmup_cosine_decay_schedule(0.0, job.learning_rate, warmup, max(job.steps, warmup + 1))
    optimiser = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adamw(rate))
    training = Training(job, data, params, optimiser, jax.jit(optimiser.init)(params), reference, gradient)
    training.resume()
    return training
