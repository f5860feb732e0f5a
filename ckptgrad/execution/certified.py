"""What `.compile` returns: a compiled gradient with the bytes that the compiler vouches for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckptgrad.bytes import device_words, format_bytes
from ckptgrad.graph.naming import counted
from ckptgrad.results.learned import Expected
from ckptgrad.results.outcomes import OUTCOMES, Outcome
from ckptgrad.results.plan import Plan
from ckptgrad.target.allocated import Memory
from ckptgrad.target.calibrate import best_seconds
from ckptgrad.target.target import Target

# Calls of which `compare` takes the fastest.
COMPARED = 5


@dataclass(frozen=True, repr=False, eq=False)
class Certified:
    """A compiled gradient whose peak XLA's buffer assignment vouches for.

    Attributes:
        plan: the plan that was compiled.
        memory: what XLA allocates; of several processes, on the device where it allocates most.
        rounds: how many plans were compiled until this one fitted, itself included; not those whose bytes are remembered.
        budget: the bytes that it keeps, as asked for; None for none. The plan's own budget is the aim that led to it.
        expected: the bytes that were expected of it before it was compiled, from what the compiler took for other plans;
            None where that is not known.
        budget_source: what the budget is taken from, in words, where it was asked for as "auto" or as a share.
        traced_parts: from arguments to those that the executable takes, where some are not traced: the program is that
            for their values, and others raise StaticArgumentError.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> safe = cg.grad(lambda x: jnp.sum(jnp.sin(x)), budget="1KiB").compile(jnp.zeros(8))
        >>> isinstance(safe, cg.Certified), safe.peak_bytes <= 1024, [float(g) for g in safe(jnp.zeros(8))[:2]]
        (True, True, [1.0, 1.0])
    """

    executable: Any
    plan: Plan
    memory: Memory
    rounds: int
    budget: int | None = None
    expected: Expected | None = None
    budget_source: str = ""
    traced_parts: Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.target.check_runs()
        if self.traced_parts is not None:
            args, kwargs = self.traced_parts(args, kwargs)
        return self.executable(*args, **kwargs)

    def __str__(self) -> str:
        plan, memory = self.plan, self.memory
        source = f" ({self.budget_source})" if self.budget_source else ""
        results = memory.peak_bytes - memory.temporary_bytes
        gradients = min(results, plan.program.gradient_bytes)
        held = sum(plan.program.argument_bytes.values())
        stages = f"{len(plan.program.stages)} stages, {plan.simulation.recomputations} forwards repeated"
        if plan.recomputing_inside:
            stages += f", {plan.recomputing_inside} backwards recompute inside"
        how = "open" if not plan.fenced else "fenced by calls" if plan.called else "fenced"
        rows = (
            ("certified", f"{format_bytes(self.peak_bytes)}{device_words(plan.program.devices)} beyond the arguments"),
            ("temporaries", format_bytes(self.temporary_bytes)),
            *([("in host memory", format_bytes(memory.host_bytes))] if memory.host_bytes else []),
            ("outputs", format_bytes(results - gradients)),
            ("gradients", format_bytes(gradients)),
            ("arguments", f"{format_bytes(held)}; {format_bytes(held + self.peak_bytes)} with them"),
            ("budget", ("none" if self.budget is None else format_bytes(self.budget)) + source),
            ("predicted", self._predicted),
            ("plan", f"{stages}, {how}, policy {plan.schedule.policy}"),
            ("compiled for", f"{self.target}, {counted(self.rounds, 'plan')} tried"),
        )
        width = max(len(what) for what, _ in rows) + 2
        return "\n".join(f"{what:<{width}}{found}" for what, found in rows)

    def __repr__(self) -> str:
        return str(self)

    @property
    def expected_bytes(self) -> int | None:
        """Bytes beyond the arguments that were expected before it was compiled: the plan's prediction, corrected by what the
        compiler took for other plans of these stages; None of stages that are open to each other and not predicted."""
        if not self.plan.is_predicted:
            return None
        return self.plan.peak_bytes if self.expected is None else self.expected.bytes

    @property
    def _predicted(self) -> str:
        if not self.plan.is_predicted:
            return "not for stages that are open to each other"
        words = format_bytes(self.plan.peak_bytes)
        if self.expected is not None and self.expected.others:
            others = counted(self.expected.others, "other plan")
            words += f"; {format_bytes(self.expected.bytes)} expected from what {others} took"
        return words

    @property
    def target(self) -> Target:
        """What it is compiled for."""
        return self.plan.program.target

    @property
    def peak_bytes(self) -> int:
        """Certified bytes beyond the arguments: temporaries plus outputs."""
        return self.memory.peak_bytes

    @property
    def temporary_bytes(self) -> int:
        """Certified bytes of temporaries."""
        return self.memory.temporary_bytes

    @property
    def host_bytes(self) -> int:
        """Certified bytes in the host's memory, of a program that uses it beside the device's."""
        return self.memory.host_bytes

    def compare(self, *args: Any, **kwargs: Any) -> Comparison:
        """Run it a few times, and tell how far off the plan's predictions were; printed with the plan from then on."""
        seconds = best_seconds(lambda: self(*args, **kwargs), COMPARED)
        if self.plan.fenced:
            OUTCOMES.put(self.plan.program, self.plan.schedule, Outcome(self.peak_bytes, seconds))
        return Comparison(self.plan.peak_bytes, self.peak_bytes, self.plan.seconds, seconds)


@dataclass(frozen=True)
class Comparison:
    """Predicted and actual: peak bytes beyond the arguments, seconds of a call."""

    predicted_peak_bytes: int
    peak_bytes: int
    predicted_seconds: float
    seconds: float

    def __str__(self) -> str:
        rows = (
            ("peak", format_bytes(self.predicted_peak_bytes), format_bytes(self.peak_bytes), self._off("peak_bytes")),
            ("time", f"{self.predicted_seconds:.3g} s", f"{self.seconds:.3g} s", self._off("seconds")),
        )
        return "\n".join(f"{what}: predicted {a}, found {b} ({off:+.1%})" for what, a, b, off in rows)

    def _off(self, name: str) -> float:
        predicted = getattr(self, f"predicted_{name}")
        return getattr(self, name) / predicted - 1 if predicted else 0.0
