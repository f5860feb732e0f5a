"""A training job: plan, certify, train, validate, sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.errors import MissingExtraError
from ckptgrad.execution.certify import Certified
from ckptgrad.request import Request
from ckptgrad.target.allocated import Memory
from ckptgrad.training import model
from ckptgrad.training.data import windows
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
    """

    shape: model.Shape
    text: bytes
    batch: int
    steps: int
    request: Request = field(default_factory=Request)
    learning_rate: float = 2e-3
    seed: int = 0


@dataclass
class Training:
    """A job in progress.

    Attributes:
        job: what to train.
        params: the current parameters.
        optimiser: an optax transformation.
        reference: what `jax.grad` would allocate.
        gradient: ckptgrad's value and gradient, compiled within the budget.
        losses: one per step, in nats per byte.
    """

    job: Job
    params: model.Params
    optimiser: GradientTransformation
    reference: Memory
    gradient: Certified
    losses: list[float] = field(default_factory=list)

    @property
    def loss_function(self) -> Callable:
        return partial(model.loss, heads=self.job.shape.heads)

    def run(self, on_step: Callable[[int, float], object] = lambda step, loss: None) -> None:
        """Train. `on_step(step, loss)` is called after each step; steps are counted from 1."""
        optax = _optax()
        state = self.optimiser.init(self.params)

        @partial(jax.jit, donate_argnums=(0, 1))
        def update(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
            change, state = self.optimiser.update(gradient, state, params)
            return optax.apply_updates(params, change), state

        for step, tokens in enumerate(islice(_batches(self.job), self.job.steps), 1):
            loss, gradient = self.gradient(self.params, tokens)
            self.params, state = update(self.params, state, gradient)
            self.losses.append(float(loss))
            on_step(step, self.losses[-1])

    def validate(
        self,
        repeats: int = 3,
        meters: str | Sequence[str] = ("resident",),
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Validation:
        """Cross-check the schedule used in training, on the trained parameters."""
        plan = self.gradient.plan
        tokens = next(_batches(self.job))
        return validate(
            self.loss_function,
            self.params,
            tokens,
            budget=plan.budget,
            policies=[plan.schedule],
            repeats=repeats,
            meters=meters,
            on_progress=on_progress,
        )

    def sample(self, count: int, prompt: bytes) -> str:
        """The prompt, continued by `count` sampled bytes."""
        continuation = model.continuation(self.params, self.job.shape, prompt, jax.random.key(self.job.seed))
        return (prompt + bytes(islice(continuation, count))).decode(errors="replace")


def _optax() -> ModuleType:
    try:
        import optax
    except ImportError:
        raise MissingExtraError("training", "optax", "train") from None
    return optax


def _batches(job: Job) -> Iterator[jax.Array]:
    return map(jnp.asarray, windows(job.text, job.batch, job.shape.context + 1, job.seed))


def prepare(job: Job) -> Training:
    """Initialise parameters and optimiser, and compile the gradient within the budget.

    Raises:
        BudgetError: the budget is below the smallest peak that the policy reaches.
        OptionError: the text is too short.
        MissingExtraError: optax is not installed.
    """
    optax = _optax()
    tokens = next(_batches(job))
    params = model.init_params(job.shape, jax.random.key(job.seed))
    loss = partial(model.loss, heads=job.shape.heads)
    reference = reference_memory(loss, params, tokens)
    request = job.request
    if request.budget is None:
        request = replace(request, budget=reference.temporary_bytes // BUDGET_SHARE + reference.output_bytes)
    gradient = GradientFunction(loss, request, with_value=True).compile(params, tokens)
    warmup = max(1, job.steps // WARMUP_SHARE)
    rate = optax.warmup_cosine_decay_schedule(0.0, job.learning_rate, warmup, max(job.steps, warmup + 1))
    optimiser = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adamw(rate))
    return Training(job, params, optimiser, reference, gradient)
