# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The programs that a staged gradient is made of: forwards and backwards of kinds of stages, fillings and copies.

Each is compiled alone and once for its kind, whatever the number of stages and plans that use it; a few at a time.  What a
program is given and needs no more is donated, so that results are written over it.  Besides its results each returns a
token of one byte, by which it is known that it has finished: a result may be donated to a later program before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from ckptgrad.chain.kind import PerKind, StageKind
from ckptgrad.execution.interpreter import separate_functions
from ckptgrad.graph.atoms import Atom
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

    def function(self) -> Callable[..., list[Any]]:
        """Of the operands to the list of results."""
        ...

    def operands(self) -> list[Any]:
        """The structs of the operands."""
        ...

    def results(self) -> list[Atom]:
        """Atoms of the types of the results."""
        ...


@dataclass(frozen=True)
class ForwardWork:
    """A forward of a kind of stage, as `StageFunctions.forward` takes it; from what it reads to what it makes."""

    kind: StageKind
    keep: int | None
    again: bool
    output: bool

    def function(self) -> Callable[..., list[Any]]:
        _, call = separate_functions(self.kind).forward(self.keep, self.again, self.output)
        return lambda *values: call([*values])

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

    def function(self) -> Callable[..., list[Any]]:
        run, call = separate_functions(self.kind).backward(self.keep, self.summed)
        count = len(run.reads)
        return lambda *values: call(([*values[:count]], [*values[count:]]))

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

    def function(self) -> Callable[..., list[Any]]:
        return lambda: [filled(cotangent_type(self.like.aval), self.number)]

    def operands(self) -> list[Any]:
        return []

    def results(self) -> list[Atom]:
        return [self.like]


@dataclass(frozen=True)
class CopyWork:
    """A copy of a value, for a result that must be a buffer of its own."""

    kind: StageKind
    like: Atom

    def function(self) -> Callable[..., list[Any]]:
        def copied(value: Any) -> list[Any]:
            return [jnp.copy(value)]

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
        donated: the positions of operands that it may write over.
        device: the one that it runs on; None: the target's first.
    """

    work: Work
    donated: tuple[int, ...]
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


def _none_ready(kind: StageKind) -> dict[Order, Ready]:
    return {}


# Programs by kind, as long as that lives.
_ready = PerKind(_none_ready)


def ready(orders: Iterable[Order], target: Target) -> dict[Order, Ready]:
    """The compiled programs of some orders; what is not compiled yet is, a few at a time, equal programs once.

    Raises:
        OptionError: nothing here compiles for the target.
    """
    distinct = [*dict.fromkeys(orders)]
    missing = [order for order in distinct if order not in _ready(order.work.kind)]
    if missing:
        target.check_compiles()
        lowered = {order: _lowered(order, target) for order in missing}
        texts = {order: program.as_text() for order, program in lowered.items()}
        by_text = {texts[order]: order for order in missing}
        with ThreadPoolExecutor() as pool:
            compiled = [*pool.map(target.compile, [lowered[order] for order in by_text.values()])]
        executables = dict(zip(by_text, compiled, strict=True))
        for order in missing:
            executable = executables[texts[order]]
            made = target.total_bytes(order.work.results())
            memory = target.allocated(executable)
            # Results come in a table of their addresses, beside the token.
            extra = max(0, memory.output_bytes - made)
            _ready(order.work.kind)[order] = Ready(
                executable, texts[order], memory.temporary_bytes + extra, memory.alias_bytes
            )
    return {order: _ready(order.work.kind)[order] for order in distinct}


def _lowered(order: Order, target: Target) -> jax.stages.Lowered:
    function, operands = order.work.function(), order.work.operands()

    def with_token(*values: Any) -> list[Any]:
        return [jnp.zeros((), jnp.uint8), *function(*values)]

    if order.device is None:
        return target.lower(jax.jit(with_token, donate_argnums=order.donated), *operands)
    there = SingleDeviceSharding(order.device)
    jitted = jax.jit(with_token, donate_argnums=order.donated, out_shardings=there)
    return target.lower(jitted, *placed(operands, [order.device]))


def donations(operands: Sequence[Any], free: Sequence[int], results: Sequence[Atom]) -> tuple[int, ...]:
    """The positions, among those of operands no longer needed, that a result of the same type can overwrite."""
    wanted: dict[tuple[Any, ...], int] = {}
    for atom in results:
        key = (tuple(atom.aval.shape), atom.aval.dtype)
        wanted[key] = wanted.get(key, 0) + 1
    found: list[int] = []
    for k in free:
        key = (tuple(operands[k].shape), operands[k].dtype)
        if wanted.get(key, 0):
            wanted[key] -= 1
            found.append(k)
    return tuple(found)
