"""Pullbacks and linearized functions: linear maps that hold arrays and, as in JAX, are pytrees of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from ckptgrad.doors.calling import Call
from ckptgrad.doors.tracing import Traced, TracedChain
from ckptgrad.errors import GradientTypeError, MismatchError
from ckptgrad.graph.evaluate import like_aval
from ckptgrad.graph.naming import name_of, title


@dataclass(frozen=True)
class _Phrases:
    """How JAX says that tangents or cotangents do not fit: the beginnings of messages that go on with names.

    Attributes:
        kind: what does not fit.
        tree, dtype, shape: for what differs.
    """

    kind: str
    tree: str
    dtype: str
    shape: str


_JVP = "primal and tangent arguments to jax.jvp"
OF_JVP = _Phrases(
    "the tangent",
    f"{_JVP} must have the same tree structure",
    f"{_JVP} do not match",
    "jvp called with different primal and tangent shapes",
)
_LINEARIZE = "linearized function called on tangent values inconsistent with the original primal values"
OF_LINEARIZE = _Phrases("the tangent", _LINEARIZE, _LINEARIZE, _LINEARIZE)
_VJP = "unexpected JAX type (e.g. shape/dtype) for argument to VJP function"
OF_VJP = _Phrases("the cotangent", "unexpected tree structure", _VJP, _VJP)


@jax.tree_util.register_pytree_node_class
class Closure:
    """A function from arrays to a list of arrays (or None), with the arrays that it holds.

    It becomes a program when it is first flattened, and runs as it is until then.

    Args:
        run: the function.
        structs: the types of its arguments.
    """

    def __init__(self, run: Callable[..., Sequence[Any]], structs: Sequence[Any]) -> None:
        self._run, self._structs = run, structs
        self._flat: tuple[list[Any], ClosedJaxpr] | None = None

    def __call__(self, *xs: Any) -> list[Any]:
        return list(self._run(*xs))

    def tree_flatten(self) -> tuple[list[Any], ClosedJaxpr]:
        if self._flat is None:
            closed = jax.make_jaxpr(lambda *xs: list(self._run(*xs)))(*self._structs)
            # The program without its arrays: treedefs and caches hold it.
            self._flat = list(closed.consts), ClosedJaxpr(closed.jaxpr, [None] * len(closed.consts))
        return self._flat

    @classmethod
    def tree_unflatten(cls, program: ClosedJaxpr, arrays: Sequence[Any]) -> Closure:
        arrays = list(arrays)
        other = cls(jaxpr_as_fun(ClosedJaxpr(program.jaxpr, arrays)), ())
        other._flat = arrays, program
        return other


@dataclass(frozen=True, eq=False)
class _Ends:
    """What a pullback takes and returns.

    Attributes:
        name, fun: the function, by its name and with its line.
        out_tree, out_avals: of the output.
        seeds: for each seed of the program the outputs whose cotangents it sums.
        in_tree: of the primals.
        shapes: for each leaf of the primals the shape of its float0 zeros, or None where it has a gradient.
    """

    name: str
    fun: str
    out_tree: Any
    out_avals: tuple[Any, ...]
    seeds: tuple[tuple[int, ...], ...]
    in_tree: Any
    shapes: tuple[tuple[int, ...] | None, ...]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Pullback:
    """From the cotangent of an output to a tuple of cotangents, one per primal; see `vjp`."""

    closure: Closure
    ends: _Ends

    @classmethod
    def of(cls, traced: TracedChain, run: Callable[..., Sequence[Any]], structs: Sequence[Any]) -> Pullback:
        """Of a traced call, by a function from the cotangents of its program's seeds to gradients."""
        call = traced.call
        avals = tuple(a.aval for a in traced.outputs)
        seeds = tuple(tuple(k for k, a in enumerate(traced.outputs) if a is v) for v in traced.program.seeds)
        shapes = tuple(None if k in traced.differentiated else np.shape(call.leaves[k]) for k in call.selected)
        names = name_of(call.original), title(call.original)
        ends = _Ends(*names, traced.returned.tree, avals, seeds, call.primals_tree, shapes)
        return cls(Closure(run, structs), ends)

    def __call__(self, ct: Any, *more: Any) -> Any:
        ends = self.ends
        if more:
            raise GradientTypeError(
                f"The function returned by vjp applied to {ends.name} was called with {len(more) + 1} arguments, but it "
                f"takes one cotangent, of the structure of the output of {ends.fun}: a tuple, where that is a tuple"
            )
        cotangents = self._leaves(ct)
        sums = [sum((cotangents[k] for k in places[1:]), cotangents[places[0]]) for places in ends.seeds]
        gradients = iter(self.closure(*sums))
        leaves = [next(gradients) if s is None else np.zeros(s, dtypes.float0) for s in ends.shapes]
        return jax.tree.unflatten(ends.in_tree, leaves)

    def _leaves(self, ct: Any) -> list[Any]:
        """The leaves of a cotangent, checked against the output; None where there is nothing to differentiate."""
        ends = self.ends
        leaves, tree = jax.tree.flatten(ct)
        if tree != ends.out_tree:
            raise MismatchError(
                f"{OF_VJP.tree}: the cotangent has {tree}, but {ends.fun} returns {ends.out_tree}; pass one "
                f"cotangent leaf per output leaf"
            )
        paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_flatten_with_path(ct)[0]]
        return [
            _fitting(aval, leaf, f"result{path} of {ends.fun}", OF_VJP) if _is_inexact(aval) else None
            for aval, leaf, path in zip(ends.out_avals, leaves, paths, strict=True)
        ]

    def tree_flatten(self) -> tuple[tuple[Closure], _Ends]:
        return (self.closure,), self.ends

    @classmethod
    def tree_unflatten(cls, ends: _Ends, children: Sequence[Any]) -> Pullback:
        return cls(children[0], ends)


@dataclass(frozen=True, eq=False)
class TangentPrimals:
    """The primals of a linear map, which takes a tangent for each of them."""

    fun: str
    names: tuple[str, ...]
    in_tree: Any
    in_avals: tuple[Any, ...]

    @classmethod
    def of(cls, call: Call) -> TangentPrimals:
        names = tuple(call.names[k] for k in call.selected)
        avals = tuple(jax.typeof(call.leaves[k]) for k in call.selected)
        return cls(title(call.original), names, call.primals_tree, avals)

    def leaves_of(self, tangents: Sequence[Any], phrases: _Phrases) -> list[Any]:
        """The leaves of tangents, checked; None for those that have no derivative.

        Args:
            tangents: a tuple of them, one per primal.
            phrases: of the door of JAX that refuses the same.

        Raises:
            GradientTypeError: a tangent is neither an array nor a number, or not float0 where its primal has no derivative.
            MismatchError: structure, shapes or dtypes differ from those of the primals.
        """
        leaves, tree = jax.tree.flatten(tuple(tangents))
        if tree != self.in_tree:
            raise MismatchError(f"{phrases.tree}: the tangents have {tree}, the primals of {self.fun} have {self.in_tree}")
        pairs = zip(self.names, self.in_avals, leaves, strict=True)
        return [_tangent(aval, t, f"the primal {name} of {self.fun}", phrases) for name, aval, t in pairs]


@dataclass(frozen=True, eq=False)
class TangentOutput:
    """The output of a linear map, which returns a tangent of it."""

    tree: Any
    avals: tuple[Any, ...]

    @classmethod
    def of(cls, traced: Traced) -> TangentOutput:
        return cls(traced.returned.tree, tuple(a.aval for a in traced.outputs))

    def restore(self, tangents: Sequence[Any]) -> Any:
        """The tangent of the output from those of its float and complex leaves; zeros for None."""
        rest = iter(tangents)
        leaves = [instantiated(next(rest) if _is_inexact(a) else None, a) for a in self.avals]
        return jax.tree.unflatten(self.tree, leaves)


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Linearized:
    """From tangents of the arguments to the tangent of the output; see `linearize`."""

    closure: Closure
    primals: TangentPrimals
    output: TangentOutput

    def __call__(self, *tangents: Any) -> Any:
        leaves = self.primals.leaves_of(tangents, OF_LINEARIZE)
        return self.output.restore(self.closure(*[t for t in leaves if t is not None]))

    def tree_flatten(self) -> tuple[tuple[Closure], tuple[TangentPrimals, TangentOutput]]:
        return (self.closure,), (self.primals, self.output)

    @classmethod
    def tree_unflatten(cls, ends: tuple[TangentPrimals, TangentOutput], children: Sequence[Any]) -> Linearized:
        return cls(children[0], *ends)


def instantiated(tangent: Any, aval: Any) -> Any:
    """A tangent of the type of its primal: zeros for None, float0 for integers."""
    if not _is_inexact(aval):
        return np.zeros(aval.shape, dtypes.float0)
    return like_aval(jnp.zeros(aval.shape, aval.dtype) if tangent is None else tangent, aval)


def _tangent(aval: Any, tangent: Any, what: str, phrases: _Phrases) -> Any:
    if _is_inexact(aval):
        return _fitting(aval, tangent, what, phrases)
    if getattr(tangent, "dtype", None) != dtypes.float0:
        raise MismatchError(
            f"{phrases.dtype}: the tangent of {what}, which is {aval.dtype}, must have dtype float0 "
            f"(np.zeros(shape, jax.dtypes.float0)), got {getattr(tangent, 'dtype', type(tangent).__name__)}"
        )
    return None


def _fitting(aval: Any, value: Any, what: str, phrases: _Phrases) -> Any:
    """A tangent or cotangent as an array, checked against what it belongs to.

    Raises:
        GradientTypeError: it is neither an array nor a number.
        MismatchError: its shape or dtype differs.
    """
    try:
        own = jax.typeof(value)
    except TypeError:
        raise GradientTypeError(
            f"{value!r} of type {type(value)} is not a valid JAX type, but stands for {phrases.kind} of {what}"
        ) from None
    if own.dtype != aval.dtype or own.shape != aval.shape:
        problem = phrases.dtype if own.dtype != aval.dtype else phrases.shape
        raise MismatchError(
            f"{problem}: got {own.dtype}{list(own.shape)} for {phrases.kind} of {what}, which is "
            f"{aval.dtype}{list(aval.shape)}; shape and dtype must be the same"
        )
    return jnp.asarray(value, aval.dtype)


def _is_inexact(aval: Any) -> bool:
    return dtypes.issubdtype(aval.dtype, jnp.inexact)
