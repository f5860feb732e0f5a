"""The interface of a way to reverse a loop, and the registry of all ways.

A way states which loops it takes, prices its plans, and runs them.  To add one: put a file with a class under
`@reversal(...)` into this folder.  It is found by itself: its plans are priced and offered beside those of the other ways,
its policies can be asked for at `cg.scan` and its siblings, and the tests of the laws
(`tests/loops/test_reversals.py`) run it on every kind of loop that it says it takes.

Laws, for every loop that a way takes:
    - the results of `forward` are those of `loop.definition`, and its effects happen once;
    - what `forward` stores is like the variables `stored`;
    - `backward` gives the gradients of `loop.definition`;
    - the program does not grow with the number of steps.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

from ckptgrad.errors import CkptgradError
from ckptgrad.graph.graph import Inside, Variable
from ckptgrad.interactive import is_defined_again
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.replay import Replay
from ckptgrad.loops.step_costs import StepCosts
from ckptgrad.loops.weight_sums import WeightSums
from ckptgrad.target.course import Course, lifted

LoopT = TypeVar("LoopT", bound=Loop)

# Steps that are told apart in the course of a loop's memory.
MOST_STEPS = 32


class ReversalError(CkptgradError):
    """The name of a way to reverse loops is taken, or a loop is not one that the way takes."""


@dataclass(frozen=True, eq=False)
class Reversal(ABC, Generic[LoopT]):
    """One plan of a way to reverse loops.

    Attributes:
        replay: a step of the loop, and what is kept of it.
    """

    replay: Replay

    registration: ClassVar[Registration]

    @classmethod
    @abstractmethod
    def candidates(cls, costs: StepCosts, offer: Offer) -> Iterator[Candidate]:
        """The plans of this way with one save option for the steps, priced.

        Args:
            costs: of one step, with this save option.
            offer: which plans are worth considering.
        """

    @property
    def steps_again(self) -> int:
        """How many steps run forward again, one after the other, before their backwards do; 0 where none does."""
        return 0

    def check(self, loop: LoopT) -> None:
        """Whether the way takes the loop.

        Raises:
            ReversalError: it does not.
        """
        refusal = self.registration.refusal(loop)
        if refusal is not None:
            raise ReversalError(f"the way {self.registration.name!r} to reverse loops {refusal}")

    @abstractmethod
    def label(self, loop: LoopT) -> str:
        """The plan in a few words."""

    @abstractmethod
    def stored(self, loop: LoopT) -> list[Variable]:
        """New variables for what the forward stores for the backward."""

    @abstractmethod
    def forward(self, loop: LoopT, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results of the loop, and what is stored."""

    @abstractmethod
    def backward(
        self, loop: LoopT, operands: Sequence[Any], stored: Sequence[Any], cotangents: Sequence[Any | None]
    ) -> list[Any | None]:
        """Gradients of the operands, None where nothing flows.

        Args:
            loop: the loop.
            operands: of the operation.
            stored: what the forward stored.
            cotangents: of the results, None for zero.
        """


@dataclass(frozen=True)
class Registration:
    """A way to reverse loops under its name, and the loops that it takes.

    Attributes:
        name: of the way.
        way: its class.
        loops: the kinds of loops: `Scan`, whose length is known, `While`, whose length is not.
        entry_buffers: whether it takes a body with buffers that are written entry by entry (`loops.entry_buffers`); the
            backward reads these as pairs of the buffer at the end and at the start.
        weight_sums: whether it can sum the gradients of constants over several steps at once (`loops.weight_sums`).
        policies: the policies of `cg.scan` and its siblings that its plans may belong to.
        references: the publications that it follows.
    """

    name: str
    way: type[Reversal[Any]]
    loops: tuple[type[Loop], ...]
    entry_buffers: bool
    weight_sums: bool
    policies: tuple[str, ...]
    references: tuple[str, ...]

    def refusal(self, loop: Loop, weight_sums: WeightSums | None = None) -> str | None:
        """Why the way does not take a loop, with these weight sums or none; None where it does."""
        if not isinstance(loop, self.loops):
            return f"takes {' and '.join(kind.__name__ for kind in self.loops)}, not {type(loop).__name__}"
        if loop.body.entry_buffers and not self.entry_buffers:
            return "does not take buffers that are written entry by entry"
        if weight_sums is not None and not self.weight_sums:
            return "does not sum gradients of constants over several steps at once"
        return None


class Candidate:
    """A plan of one loop, and what it is estimated to cost.  The plan is made when it is first asked for.

    Attributes:
        policies: the policies of a loop's door that it belongs to, besides "optimal".
        stored: bytes that are stored between forward and backward.
        forward_bytes, backward_bytes: held in either pass besides what is stored, operands and results.
        forward_seconds, backward_seconds: estimated time of either pass.
        host_bytes: bytes that are stored in the host's memory instead.
        bytes, seconds: in total.
    """

    __slots__ = (
        "_costs", "_make", "_reversal", "backward_bytes", "backward_seconds", "bytes", "forward_bytes", "forward_seconds",
        "host_bytes", "policies", "seconds", "stored",
    )  # fmt: skip

    def __init__(
        self,
        costs: StepCosts,
        make: Callable[[], Reversal[Any]],
        policies: tuple[str, ...],
        *,
        stored: int,
        forward_bytes: int,
        backward_bytes: int,
        forward_seconds: float,
        backward_seconds: float,
        host_bytes: int = 0,
    ) -> None:
        self._costs, self._make, self.policies, self.stored = costs, make, policies, stored
        self.forward_bytes, self.backward_bytes = forward_bytes, backward_bytes
        self.forward_seconds, self.backward_seconds = forward_seconds, backward_seconds
        self.host_bytes = host_bytes
        self.bytes = stored + max(forward_bytes, backward_bytes)
        self.seconds = forward_seconds + backward_seconds
        self._reversal: Reversal[Any] | None = None

    @property
    def reversal(self) -> Reversal[Any]:
        """The plan."""
        if self._reversal is None:
            self._reversal = self._make()
        return self._reversal

    @property
    def name(self) -> str:
        """The plan in a few words, with those of the loops inside."""
        label, inner = self.reversal.label(self._costs.loop), self._costs.inner
        return f"{label} ({inner})" if inner else label

    def forward_course(self) -> Course:
        """How the bytes that are held inside the forward go over time: step by step, several in one if they are many."""
        return lifted(self._costs.forward_course * self._steps, self.forward_seconds, self.forward_bytes)

    def backward_course(self) -> Course:
        """The same of the backward: each group of steps runs forward again, if it must, and then backward."""
        group, left, course = max(1, self.reversal.steps_again), self._steps, list[tuple[float, int]]()
        while left > 0:
            steps = min(group, left)
            course += self._costs.forward_course * (steps if self.reversal.steps_again else 0)
            course += self._costs.backward_course * steps
            left -= steps
        return lifted(course, self.backward_seconds, self.backward_bytes)

    def inside_forward(self) -> list[Inside]:
        """The arrays that are held inside the forward: an estimate."""
        return self._costs.inside_forward()

    def inside_backward(self) -> list[Inside]:
        """The same inside the backward: what is kept of a group of steps that run forward again, and what a step holds."""
        again = self.reversal.steps_again
        return self._costs.inside_backward(again + 1 if again else 0, self.backward_bytes)

    @property
    def _steps(self) -> int:
        return max(1, min(self._costs.length, MOST_STEPS))


def spread(most: int, parts: int) -> list[int]:
    """1, 2, ... up to `most`: each number one further, or the previous one divided by `parts` where that is more."""
    numbers, k = [], 1
    while k <= most:
        numbers.append(k)
        k += max(1, k // parts)
    return numbers


def _all(candidates: list[Candidate]) -> list[Candidate]:
    return candidates


@dataclass(frozen=True)
class Offer:
    """Which plans of loops are considered, and which of these are offered to the planner.

    Attributes:
        ways: the names of the ways that are considered; None: all that are registered.
        slowest: plans slower than the fastest by this factor are not offered.
        largest: plans larger than the smallest in two levels by this factor are not considered.
        numbers: from the largest and a coarseness to the numbers of steps in a group, and of checkpoints, to consider.
        select: from all plans of a loop to those that are offered.
    """

    ways: frozenset[str] | None = None
    slowest: float = 20.0
    largest: float = 32.0
    numbers: Callable[[int, int], Sequence[int]] = spread
    select: Callable[[list[Candidate]], list[Candidate]] = _all


_REGISTRY: dict[str, Registration] = {}
_Way = TypeVar("_Way", bound=type[Reversal[Any]])


def reversal(
    name: str,
    *,
    loops: tuple[type[Loop], ...],
    policies: tuple[str, ...] = (),
    entry_buffers: bool = False,
    weight_sums: bool = False,
    references: tuple[str, ...] = (),
) -> Callable[[_Way], _Way]:
    """Register the decorated class as a way to reverse loops; arguments as the attributes of `Registration`.

    Raises:
        ReversalError: the name is taken; a notebook's cell may be run again.
    """

    def register(way: _Way) -> _Way:
        known = _REGISTRY.get(name)
        if known is not None and not is_defined_again(known.way, way):
            raise ReversalError(f"a way to reverse loops is called {name!r} already; choose another name")
        way.registration = Registration(name, way, loops, entry_buffers, weight_sums, policies, references)
        _REGISTRY[name] = way.registration
        return way

    return register


def unregister(name: str) -> None:
    """Forget a way to reverse loops."""
    _REGISTRY.pop(name, None)


def registered() -> dict[str, Registration]:
    """All ways to reverse loops by name, the plain ones first: of plans alike in bytes and seconds the first is taken."""
    _discover()

    def refinements(way: Registration) -> tuple[int, str]:
        return way.entry_buffers + way.weight_sums, way.name

    return {way.name: way for way in sorted(_REGISTRY.values(), key=refinements)}


@cache
def _discover() -> None:
    folder = importlib.import_module("ckptgrad.loops.reversals")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
