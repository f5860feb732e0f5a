"""The memory of results that temporaries use until the results are made.

A compiler gives each result memory of its own for the whole call, but gradients of arguments are made late. Until then
their memory is lent: XLA's buffer assignment tries to place each temporary, the largest first, in the smallest result that
is large enough and holds nothing else at that time, and makes room for the others after that.
The ledger counts results from the beginning; what is lent at a moment is counted there twice, and taken off here.
Does not: count what is inside transients, of which the ledger has only the total; what waits beside boundaries
(`chain.waiting`); results that are no gradients; or a sum's memory after its first term.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from ckptgrad.chain.kind import StageKind, private_residuals
from ckptgrad.chain.program import Program
from ckptgrad.graph.graph import Atom, Variable
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Action, Backward, Forward

# By bytes of arrays, how many there are.
Sizes: TypeAlias = Counter[int]
# By the bytes of a result and of what stands in it, how many such pairs there are.
Loans: TypeAlias = Counter[tuple[int, int]]


def peak_less_lent(program: Program, costs: ChainCosts, schedule: Iterable[Action], totals: Sequence[int]) -> int:
    """The peak of a schedule, without what is lent.

    Args:
        program: what is planned.
        costs: its costs.
        schedule: the actions.
        totals: bytes during each, everything counted.
    """
    peak, lending = 0, Lending(program, costs)
    if not lending.may_lend:
        return max(totals)
    for _, total in zip(lending.follow(schedule), totals, strict=True):
        if total > peak:
            peak = max(peak, total - lending.bytes)
    return peak


class Lending:
    """What gradients of arguments that are not made yet lend, action by action."""

    def __init__(self, program: Program, costs: ChainCosts) -> None:
        self._sizes, self._costs = _Sizes(program), costs
        self._unmade = _by_maker(program)
        self._free = self._sizes.of_gradients(v for made in self._unmade.values() for v in made)
        self._held = Counter(self._sizes.cotangent(len(program.stages)))
        self._boundaries = {0}
        self._residuals: dict[int, int] = {}

    @property
    def may_lend(self) -> bool:
        """Whether some result is as large as something that may be held."""
        return min(self._sizes.all(), default=0) <= max(self._free, default=-1)

    @property
    def bytes(self) -> int:
        """Bytes that are lent during the action at hand."""
        return sum(size * count for (_, size), count in self._loans().items())

    def lenders(self) -> Iterator[tuple[Variable, int]]:
        """The arguments whose gradients lend during the action at hand, and how many bytes each; those made last first."""
        loans = self._loans()
        for _, variables in sorted(self._unmade.items()):
            for v in variables:
                own = self._sizes.of_gradient(v)
                size = next((size for result, size in loans if result == own), None)
                if size is not None:
                    loans -= Counter({(own, size): 1})
                    yield v, size

    def follow(self, schedule: Iterable[Action]) -> Iterator[Action]:
        """Run actions on paper: each is at hand while it is yielded."""
        for action in schedule:
            if isinstance(action, Forward):
                self._forward(action)
                yield action
            elif isinstance(action, Backward):
                yield from self._backward(action)
            else:
                yield action
                self._boundaries.discard(action.boundary)
                self._held -= self._sizes.boundary(action.boundary)

    def _forward(self, action: Forward) -> None:
        i = action.stage
        if action.keep is not None:
            self._residuals[i] = action.keep
            self._held += self._sizes.residuals(i, action.keep)
        if action.output and i + 1 not in self._boundaries:
            self._boundaries.add(i + 1)
            self._held += self._sizes.boundary(i + 1)

    def _backward(self, action: Backward) -> Iterator[Action]:
        i = action.stage
        keep = self._residuals.pop(i)
        self._free -= self._sizes.of_gradients(self._unmade.pop(i, ()))
        # A backward that writes over what it reads holds less than the two together.
        overwrites = self._costs.stages[i].options[keep].backward_transient < 0
        if not overwrites:
            self._held += self._sizes.cotangent(i)
        yield action
        if overwrites:
            self._held += self._sizes.cotangent(i)
        self._held -= self._sizes.cotangent(i + 1)
        self._held -= self._sizes.residuals(i, keep)

    def _loans(self) -> Loans:
        loans, free = Counter[tuple[int, int]](), dict(self._free)
        results = sorted(free)
        for size in sorted(self._held, reverse=True):
            waiting = self._held[size]
            for result in results[bisect_left(results, size) :]:
                count = min(waiting, free[result])
                if count:
                    loans[result, size] += count
                    free[result] -= count
                    waiting -= count
        return loans


class _Sizes:
    """Arrays of a program by their bytes: how many of each size."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known: dict[tuple[str | int, StageKind], Sizes] = {}

    def of_gradient(self, v: Variable) -> int:
        """Bytes of the gradient of an argument."""
        return self._program.target.bytes_of(self._program.gradient_of(v))

    def of_gradients(self, variables: Iterable[Variable]) -> Sizes:
        """Of the gradients of these arguments."""
        return self.of(map(self._program.gradient_of, variables))

    def of(self, arrays: Iterable[Atom]) -> Sizes:
        """Of these arrays, those without elements left out."""
        return +Counter({size: n for size, n in Counter(map(self._program.target.bytes_of, arrays)).items() if size})

    def boundary(self, i: int) -> Sizes:
        """Of boundary i; that of the input is the caller's."""
        return self._remembered("boundary", self._kind(i - 1), lambda kind: kind.outputs_kept) if i else Counter()

    def cotangent(self, i: int) -> Sizes:
        """Of the cotangent of boundary i."""

        def crossing(kind: StageKind) -> list[Variable]:
            pairs = zip(kind.seeds, kind.joint.cotangents, strict=True)
            return [v for k, v in pairs if k in kind.boundary_out]

        return self._remembered("cotangent", self._kind(i - 1), crossing) if i else Counter()

    def residuals(self, i: int, keep: int) -> Sizes:
        """Of what stage i keeps by option `keep`."""
        return self._remembered(keep, self._kind(i), lambda kind: private_residuals(kind, kind.options[keep]))

    def all(self) -> Iterator[int]:
        """Every size that there is."""
        for i, stage in enumerate(self._program.stages):
            yield from self.boundary(i + 1)
            yield from self.cotangent(i + 1)
            for k in range(len(stage.kind.options)):
                yield from self.residuals(i, k)

    def _kind(self, stage: int) -> StageKind:
        return self._program.stages[stage].kind

    def _remembered(self, what: str | int, kind: StageKind, arrays: Callable[[StageKind], Iterable[Variable]]) -> Sizes:
        if (what, kind) not in self._known:
            self._known[what, kind] = self.of(arrays(kind))
        return self._known[what, kind]


def _by_maker(program: Program) -> dict[int, list[Variable]]:
    """By stage, the arguments whose gradient, or its first term, is made by that stage's backward."""
    maker: dict[Variable, int] = {}
    arguments = {*program.wrt}
    for i, stage in enumerate(program.stages):
        pairs = zip(stage.differentiated, stage.kind.joint.gradients, strict=True)
        maker |= {v: i for v, gradient in pairs if v in arguments and gradient is not None}
    made: dict[int, list[Variable]] = {}
    for v, i in maker.items():
        made.setdefault(i, []).append(v)
    return made
