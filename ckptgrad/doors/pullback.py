"""Pullbacks and linearized functions: linear maps that keep arrays, and are pytrees of these as JAX's are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from ckptgrad.doors.calling import Call, Returned, Traced
from ckptgrad.errors import GradientTypeError, MismatchError
from ckptgrad.graph.evaluate import like_aval
from ckptgrad.graph.graph import Graph
from ckptgrad.graph.naming import name_of, title


@dataclass(frozen=True)
class _Said:
    """What JAX says where tangents or cotangents do not fit: the beginnings of messages that go on with names."""

    kind: str
    tree: str
    dtype: str
    shape: str


_PUSHED = "primal and tangent arguments to jax.jvp"
PUSHED = _Said(
    "the tangent",
    f"{_PUSHED} must have the same tree structure",
    f"{_PUSHED} do not match",
    "jvp called with different primal and tangent shapes",
)
_OTHERS = "linearized function called on tangent values inconsistent with the original primal values"
LINEARIZED = _Said("the tangent", _OTHERS, _OTHERS, _OTHERS)
_UNEXPECTED = "unexpected JAX type (e.g. shape/dtype) for argument to VJP function"
PULLED = _Said("the cotangent", "unexpected tree structure", _UNEXPECTED, _UNEXPECTED)


@jax.tree_util.register_pytree_node_class
class Kept:
    """A function from arrays to a list of arrays (or None), with the arrays that it keeps.

    It becomes a program when it is first flattened, and runs as it is until then.

    Args:
        run: the function.
        structs: what it takes.
    """

    def __init__(self, run: Callable[..., Sequence[Any]], structs: Sequence[Any]):
        self._run, self._structs = run, structs
        self._flat: tuple[list[Any], ClosedJaxpr] | None = None

    def __call__(self, *xs: Any) -> list[Any]:
        return list(self._run(*xs))

    def tree_flatten(self) -> tuple[list[Any], ClosedJaxpr]:
        if self._flat is None:
            closed = jax.make_jaxpr(lambda *xs: list(self._run(*xs)))(*self._structs)
            # The program without its arrays: it is kept in treedefs and in caches.
            self._flat = list(closed.consts), ClosedJaxpr(closed.jaxpr, [None] * len(closed.consts))
        return self._flat

    @classmethod
    def tree_unflatten(cls, program: ClosedJaxpr, arrays: Sequence[Any]) -> Kept:
        arrays = list(arrays)
        other = cls(jaxpr_as_fun(ClosedJaxpr(program.jaxpr, arrays)), ())
        other._flat = arrays, program
        return other


@dataclass(frozen=True, eq=False)
class _Ends:
    """What a pullback takes and returns."""

    name: str
    fun: str
    out_tree: Any
    out_avals: tuple[Any, ...]
    seeds: tuple[tuple[int, ...], ...]  # for each seed of the program the outputs whose cotangents it sums
    in_tree: Any
    shapes: tuple[tuple[int, ...] | None, ...]  # for each leaf of the primals the shape of its float0 zeros, or None


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Pullback:
    """From the cotangent of an output to a tuple of cotangents, one per primal; see `vjp`."""

    kept: Kept
    ends: _Ends

    @classmethod
    def of(cls, traced: Traced, run: Callable[..., Sequence[Any]], structs: Sequence[Any]) -> Pullback:
        """Of a traced call, by a function from the cotangents of its program's seeds to gradients."""
        outputs = traced.program.graph.outputs[: traced.returned.count]
        seeds = tuple(tuple(k for k, a in enumerate(outputs) if a is v) for v in traced.program.seeds)
        wanted, leaves = set(traced.differentiated), traced.call.leaves
        shapes = tuple(None if k in wanted else np.shape(leaves[k]) for k in traced.call.selected)
        in_tree = jax.tree.structure(traced.call.primals)
        avals = tuple(a.aval for a in outputs)
        ends = _Ends(
            name_of(traced.call.original), title(traced.call.original), traced.returned.tree, avals, seeds, in_tree, shapes
        )
        return cls(Kept(run, structs), ends)

    def __call__(self, ct: Any, *more: Any) -> Any:
        ends = self.ends
        if more:
            raise GradientTypeError(
                f"The function returned by vjp applied to {ends.name} was called with {len(more) + 1} arguments, but it "
                f"takes one cotangent, of the structure of the output of {ends.fun}: a tuple, where that is a tuple"
            )
        cotangents = self._leaves(ct)
        sums = [sum((cotangents[k] for k in places[1:]), cotangents[places[0]]) for places in ends.seeds]
        found = iter(self.kept(*sums))
        gradients = [next(found) if s is None else np.zeros(s, dtypes.float0) for s in ends.shapes]
        return jax.tree.unflatten(ends.in_tree, gradients)

    def _leaves(self, ct: Any) -> list[Any]:
        """The leaves of a cotangent, checked against the output; None where there is nothing to differentiate."""
        ends = self.ends
        leaves, tree = jax.tree.flatten(ct)
        if tree != ends.out_tree:
            raise MismatchError(
                f"{PULLED.tree}: the cotangent has {tree}, but {ends.fun} returns {ends.out_tree}; pass one "
                f"cotangent leaf per output leaf"
            )
        paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_flatten_with_path(ct)[0]]
        return [
            _fitting(aval, leaf, f"result{path} of {ends.fun}", PULLED) if _is_inexact(aval) else None
            for aval, leaf, path in zip(ends.out_avals, leaves, paths, strict=True)
        ]

    def tree_flatten(self) -> tuple[tuple[Kept], _Ends]:
        return (self.kept,), self.ends

    @classmethod
    def tree_unflatten(cls, ends: _Ends, children: Sequence[Any]) -> Pullback:
        return cls(children[0], ends)


@dataclass(frozen=True, eq=False)
class TangentPrimals:
    """The primals, tangents of which a linear map takes."""

    fun: str
    names: tuple[str, ...]
    in_tree: Any
    in_avals: tuple[Any, ...]

    @classmethod
    def of(cls, call: Call) -> TangentPrimals:
        names, leaves = [call.names[k] for k in call.selected], [call.leaves[k] for k in call.selected]
        return cls(title(call.original), tuple(names), jax.tree.structure(call.primals), tuple(map(jax.typeof, leaves)))

    def directions(self, tangents: Sequence[Any], said: _Said) -> list[Any]:
        """Tangents of the leaves, checked; None for leaves that have none.

        Args:
            tangents: a tuple of them.
            said: how JAX's namesake begins what it says where they do not fit.

        Raises:
            GradientTypeError: a tangent is no array or number, or not float0 where its primal has no derivative.
            MismatchError: structure, shapes or dtypes differ from those of the primals.
        """
        leaves, tree = jax.tree.flatten(tuple(tangents))
        if tree != self.in_tree:
            raise MismatchError(f"{said.tree}: the tangents have {tree}, the primals of {self.fun} have {self.in_tree}")
        pairs = zip(self.names, self.in_avals, leaves, strict=True)
        return [_direction(aval, t, f"the primal {name} of {self.fun}", said) for name, aval, t in pairs]


@dataclass(frozen=True, eq=False)
class TangentOutput:
    """The output, a tangent of which a linear map returns."""

    tree: Any
    avals: tuple[Any, ...]

    @classmethod
    def of(cls, graph: Graph, returned: Returned) -> TangentOutput:
        return cls(returned.tree, tuple(a.aval for a in graph.outputs[: returned.count]))

    def restore(self, tangents: Sequence[Any]) -> Any:
        """The tangent of the output from those of its float and complex leaves; zeros for None."""
        rest = iter(tangents)
        leaves = [instantiated(next(rest) if _is_inexact(a) else None, a) for a in self.avals]
        return jax.tree.unflatten(self.tree, leaves)


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Linearized:
    """From tangents of the arguments to the tangent of the output; see `linearize`."""

    kept: Kept
    primals: TangentPrimals
    output: TangentOutput

    def __call__(self, *tangents: Any) -> Any:
        directions = self.primals.directions(tangents, LINEARIZED)
        return self.output.restore(self.kept(*[t for t in directions if t is not None]))

    def tree_flatten(self) -> tuple[tuple[Kept], tuple[TangentPrimals, TangentOutput]]:
        return (self.kept,), (self.primals, self.output)

    @classmethod
    def tree_unflatten(cls, ends: tuple[TangentPrimals, TangentOutput], children: Sequence[Any]) -> Linearized:
        return cls(children[0], *ends)


def instantiated(tangent: Any, aval: Any) -> Any:
    """A tangent of the type of its primal: zeros for None, float0 for integers."""
    if not _is_inexact(aval):
        return np.zeros(aval.shape, dtypes.float0)
    return like_aval(jnp.zeros(aval.shape, aval.dtype) if tangent is None else tangent, aval)


def _direction(aval: Any, tangent: Any, what: str, said: _Said) -> Any:
    if _is_inexact(aval):
        return _fitting(aval, tangent, what, said)
    if getattr(tangent, "dtype", None) != dtypes.float0:
        raise MismatchError(
            f"{said.dtype}: the tangent of {what}, which is {aval.dtype}, must have dtype float0 "
            f"(np.zeros(shape, jax.dtypes.float0)), got {getattr(tangent, 'dtype', type(tangent).__name__)}"
        )
    return None


def _fitting(aval: Any, value: Any, what: str, said: _Said) -> Any:
    """A tangent or cotangent as an array, checked against what it belongs to.

    Raises:
        GradientTypeError: it is no array or number.
        MismatchError: its shape or dtype differs.
    """
    try:
        own = jax.typeof(value)
    except TypeError:
        raise GradientTypeError(
            f"{value!r} of type {type(value)} is not a valid JAX type, but stands for {said.kind} of {what}"
        ) from None
    if own.dtype != aval.dtype or own.shape != aval.shape:
        raise MismatchError(
            f"{said.dtype if own.dtype != aval.dtype else said.shape}: got {own.dtype}{list(own.shape)} for {said.kind} of "
            f"{what}, which is {aval.dtype}{list(aval.shape)}; shape and dtype must be the same"
        )
    return jnp.asarray(value, aval.dtype)


def _is_inexact(aval: Any) -> bool:
    return dtypes.issubdtype(aval.dtype, jnp.inexact)
