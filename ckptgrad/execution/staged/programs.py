# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The programs that a staged gradient is made of: forwards and backwards of kinds of stages, fillings and copies.

Each is compiled alone and once for its kind, whatever the number of stages and plans that use it; a few at a time.  What a
program is given and needs no more is donated, so that results are written over it.  Besides its results each returns a
token of one byte, by which it is known that it has finished: a result may be donated to a later program before that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from ckptgrad.chain.kind import PerKind, StageKind
from ckptgrad.execution.stage_functions import StageFunctions, separate_functions, stage_functions
from ckptgrad.execution.staged.tokens import AT_ONCE, token
from ckptgrad.graph.atoms import Atom
from ckptgrad.graph.fingerprint import Key, value_key
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.value_types import cotangent_struct, cotangent_type, filled, struct
from ckptgrad.target.placed import placed
from ckptgrad.target.target import Target


class Work(Protocol):
    """What one program does."""

    @property
    def kind(self) -> StageKind:
        """The kind of stage with which the program is kept."""
        ...

    def function(self, among: bool = False) -> Callable[..., list[Any]]:
        """Of (the operands, arrays to wait for) to the list of results; `among` others, isolated from these."""
        ...

    def operands(self) -> list[Any]:
        """The structs of the operands."""
        ...

    def results(self) -> list[Atom]:
        """Atoms of the types of the results."""
        ...


def _functions(kind: StageKind, among: bool) -> StageFunctions:
    return (stage_functions if among else separate_functions)(kind)


@dataclass(frozen=True)
class ForwardWork:
    """A forward of a kind of stage, as `StageFunctions.forward` takes it; from what it reads to what it makes."""

    kind: StageKind
    keep: int | None
    again: bool
    output: bool

    def function(self, among: bool = False) -> Callable[..., list[Any]]:
        return _functions(self.kind, among).forward(self.keep, self.again, self.output)[1]

    def operands(self) -> list[Any]:
        run, _ = separate_functions(self.kind).forward(self.keep, self.again, self.output)
        return [struct(v.aval) for v in run.reads]

    def results(self) -> list[Atom]:
        run, _ = separate_functions(self.kind).forward(self.keep, self.again, self.output)
        return [*run.makes]


@dataclass(frozen=True)
class BackwardWork:
    """A backward of a kind of stage, as `StageFunctions.backward` takes it; totals come last, in operands and results."""

    kind: StageKind
    keep: int
    summed: tuple[int, ...]

    def function(self, among: bool = False) -> Callable[..., list[Any]]:
        run, call = _functions(self.kind, among).backward(self.keep, self.summed)
        count = len(run.reads)

        def backward(values: Sequence[Any], earlier: Sequence[Any] = ()) -> list[Any]:
            return call(([*values[:count]], [*values[count:]]), earlier)

        return backward

    def operands(self) -> list[Any]:
        functions = separate_functions(self.kind)
        run, _ = functions.backward(self.keep, self.summed)
        _, terms = functions.backward_results(self.keep, self.summed)
        cotangents = {*self.kind.joint.cotangents}
        given = [cotangent_struct(v.aval) if v in cotangents else struct(v.aval) for v in run.reads]
        return given + [cotangent_struct(a.aval) for a in terms]

    def results(self) -> list[Atom]:
        others, terms = separate_functions(self.kind).backward_results(self.keep, self.summed)
        return [*others, *terms]


@dataclass(frozen=True)
class FillWork:
    """A cotangent of the type of a value, one number everywhere."""

    kind: StageKind
    like: Variable
    number: float

    def function(self, among: bool = False) -> Callable[..., list[Any]]:
        def fill(values: Sequence[Any], earlier: Sequence[Any] = ()) -> list[Any]:
            return [filled(cotangent_type(self.like.aval), self.number)]

        return fill

    def operands(self) -> list[Any]:
        return []

    def results(self) -> list[Atom]:
        return [self.like]


@dataclass(frozen=True)
class CopyWork:
    """A copy of a value, for a result that must be a buffer of its own."""

    kind: StageKind
    like: Atom

    def function(self, among: bool = False) -> Callable[..., list[Any]]:
        def copied(values: Sequence[Any], earlier: Sequence[Any] = ()) -> list[Any]:
            return [jnp.copy(*values)]

        return copied

    def operands(self) -> list[Any]:
        return [struct(self.like.aval)]

    def results(self) -> list[Atom]:
        return [self.like]


@dataclass(frozen=True)
class Order:
    """A program as it is ordered from the compiler.

    Attributes:
        work: what it does.
        free: the positions of operands that nothing needs any more, and that have the type of a result.
        device: the one that it runs on; None: the target's first.
    """

    work: Work
    free: tuple[int, ...]
    device: Any = None


@dataclass(frozen=True)
class Ready:
    """A compiled program.

    Attributes:
        executable: from operands to a token and the results.
        text: the program as it was lowered.
        temporary_bytes: what it allocates for the time that it runs, besides its results.
        overwritten_bytes: of its results, those that are written over operands.
    """

    executable: Any
    text: str
    temporary_bytes: int
    overwritten_bytes: int

    @property
    def added_bytes(self) -> int:
        """Bytes that it takes while it runs, its results aside, less those that it writes over."""
        return self.temporary_bytes - self.overwritten_bytes


def _none_ready(kind: StageKind) -> dict[Order, Ready]:
    return {}


# Programs by kind, as long as that lives.
_ready = PerKind(_none_ready)


def ready(orders: Iterable[Order], target: Target) -> dict[Order, Ready]:
    """The compiled programs of some orders; what is not compiled yet is, a few at a time, equal programs once.

    Which operands are best written over is known once it is compiled: where there is a choice, of the program that takes the
    fewest bytes.

    Raises:
        OptionError: nothing here compiles for the target.
    """
    distinct = [*dict.fromkeys(orders)]
    missing = [order for order in distinct if order not in _ready(order.work.kind)]
    if missing:
        target.check_compiles()
        keys = {order: _key(order) for order in missing}
        ways = {(keys[order], donated): (order, donated) for order in missing for donated in donations(order)}
        lowered = {way: _lowered(*example, target) for way, example in ways.items()}
        with ThreadPoolExecutor() as pool:
            compiled = dict(zip(lowered, pool.map(target.compile, lowered.values()), strict=True))
        for order in missing:
            made = target.total_bytes(order.work.results())
            found = [(keys[order], donated) for donated in donations(order)]
            programs = [_read(compiled[way], lowered[way].as_text(), made, target) for way in found]
            _ready(order.work.kind)[order] = min(programs, key=lambda program: program.added_bytes)
    return {order: _ready(order.work.kind)[order] for order in distinct}


def _read(executable: Any, text: str, made: int, target: Target) -> Ready:
    memory = target.allocated(executable)
    # Results come in a table of their addresses, beside the token.
    extra = max(0, memory.output_bytes - made)
    return Ready(executable, text, memory.temporary_bytes + extra, memory.alias_bytes)


def _key(order: Order) -> Key:
    """Equal for equal programs. Their text is not enough: it does not say which Python function a callback calls."""
    traced = jax.make_jaxpr(order.work.function())(order.work.operands())
    return (value_key(traced), order.device)


def _lowered(order: Order, donated: tuple[int, ...], target: Target) -> jax.stages.Lowered:
    function, operands = order.work.function(), order.work.operands()
    # What reads much makes much, be it for the time that it runs only.
    moved = sum(x.size * x.dtype.itemsize for x in operands) + target.total_bytes(order.work.results())
    at_once = target.platform.host_memory and moved >= AT_ONCE

    def with_token(*values: Any) -> list[Any]:
        return [token(at_once), *function(values)]

    if order.device is None:
        return target.lower(jax.jit(with_token, donate_argnums=donated), *operands)
    there = SingleDeviceSharding(order.device)
    jitted = jax.jit(with_token, donate_argnums=donated, out_shardings=there)
    return target.lower(jitted, *placed(operands, [order.device]))


def donations(order: Order) -> tuple[tuple[int, ...], ...]:
    """The choices of operands to write over: for each result one of its type, the first free ones or the last.

    Where a result is made before its operand was read for the last time, that is copied first, and nothing is saved; what
    is read last is up to the compiler.  Cotangents, often the better choice, come late among the operands of backwards.
    """
    if not order.free:
        return ((),)
    wanted = Counter(map(_type, (atom.aval for atom in order.work.results())))
    operands = order.work.operands()

    def chosen(free: Iterable[int]) -> tuple[int, ...]:
        left, found = wanted.copy(), list[int]()
        for k in free:
            if left[_type(operands[k])] > 0:
                left[_type(operands[k])] -= 1
                found.append(k)
        return tuple(sorted(found))

    return tuple(dict.fromkeys([chosen(order.free), chosen(reversed(order.free))]))


def overwritable(operands: Sequence[Any], free: Iterable[int], results: Sequence[Atom]) -> tuple[int, ...]:
    """The positions, among those of operands no longer needed, of those that have the type of a result."""
    wanted = {_type(atom.aval) for atom in results}
    return tuple(k for k in free if _type(operands[k]) in wanted)


def _type(value: Any) -> tuple[Any, ...]:
    return tuple(value.shape), value.dtype
