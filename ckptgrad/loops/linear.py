"""Linear maps that carry their own transpose through JAX's transformations.

The tangents of a planned loop are a linear map of the tangents of its operands; its transpose is the planned way back.
As one primitive the pair stays together under jvp, vmap, jit and transposition, by JAX as by this engine.
(`jax.custom_derivatives.linear_call` has neither batching nor derivatives.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir  # noqa: TID251 (to tell JAX how to differentiate ours)

from ckptgrad.autodiff.of_function import pulled_back, pushed_forward
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.autodiff.rule import Application
from ckptgrad.loops.stacks import stacked
from ckptgrad.rules.decorators import bprop, instantiate

Function = Callable[..., Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Pair:
    """A map and its transpose, of (values that they read, linear arguments).

    Attributes:
        count: the number of values that they read, which come first.
        run, transpose: the map and its transpose.
        definition, transpose_definition: what to differentiate instead, for derivatives towards the values that they read.
        arguments, results: the types of the linear arguments, and of the results.
        proved: whether both are certain to be linear: a user's rule for cotangents, or for tangents, need not be.
    """

    count: int
    run: Function
    transpose: Function
    definition: Function
    transpose_definition: Function
    arguments: tuple[Any, ...]
    results: tuple[Any, ...]
    proved: bool

    @property
    def swapped(self) -> Pair:
        """The transpose, as a map."""
        return Pair(
            self.count,
            self.transpose,
            self.run,
            self.transpose_definition,
            self.definition,
            self.results,
            self.arguments,
            self.proved,
        )

    def mapped(self, axes: Sequence[int | None], size: int) -> Pair:
        """Over a batch of `size` entries: the first axis of linear arguments, `axes` of the values that are read."""

        def over(function: Function) -> Function:
            def run(*args: Any) -> Sequence[Any]:
                return jax.vmap(function, in_axes=(*axes, *[0] * (len(args) - self.count)))(*args)

            return run

        arguments, results = (tuple(stacked(a, size) for a in avals) for avals in (self.arguments, self.results))
        run, transpose = over(self.run), over(self.transpose)
        definition, transpose_definition = over(self.definition), over(self.transpose_definition)
        return Pair(self.count, run, transpose, definition, transpose_definition, arguments, results, self.proved)


linear_p = Primitive("planned_linear")
linear_p.multiple_results = True


def linear(pair: Pair, read: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """The map applied."""
    return linear_p.bind(*read, *arguments, pair=pair)


def _run(*args: Any, pair: Pair) -> list[Any]:
    return list(pair.run(*args))


@linear_p.def_abstract_eval
def _(*avals: Any, pair: Pair) -> Any:
    return pair.results


linear_p.def_impl(lambda *args, pair: jax.jit(pair.run)(*args))
mlir.register_lowering(linear_p, mlir.lower_fun(_run, multiple_results=True))


def _transpose(cotangents: Sequence[Any], *args: Any, pair: Pair) -> list[Any]:
    seeds = [ad.instantiate_zeros(ct) for ct in cotangents]
    pulled = linear(pair.swapped, args[: pair.count], seeds)
    pairs = zip(pulled, args[pair.count :], strict=True)
    return [None] * pair.count + [ct if ad.is_undefined_primal(x) else None for ct, x in pairs]


def _batch(args: Sequence[Any], axes: Sequence[Any], *, pair: Pair) -> tuple[list[Any], list[int]]:
    size = next(x.shape[d] for x, d in zip(args, axes, strict=True) if d is not None)
    arguments = [
        jnp.broadcast_to(x, (size, *jnp.shape(x))) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(args[pair.count :], axes[pair.count :], strict=True)
    ]
    results = linear(pair.mapped(axes[: pair.count], size), args[: pair.count], arguments)
    return results, [0] * len(results)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, pair: Pair) -> tuple[list[Any], list[Any]]:
    results = linear(pair, primals[: pair.count], primals[pair.count :])
    known = [None if isinstance(t, ad.Zero) or t.dtype == jax.dtypes.float0 else t for t in tangents]
    avals = [jax.typeof(r).to_tangent_aval() for r in results]
    pushed: list[Any] = [None] * len(results)
    if not pair.proved:
        pushed = pushed_forward(pair.definition, primals, known)
        return results, [ad.Zero(aval) if t is None else t for aval, t in zip(avals, pushed, strict=True)]
    if any(t is not None for t in known[pair.count :]):
        directions = [t if t is not None else jnp.zeros_like(x) for t, x in zip(known, primals, strict=True)][pair.count :]
        pushed = linear(pair, primals[: pair.count], directions)
    if any(t is not None for t in known[: pair.count]):
        around = pushed_forward(pair.definition, primals, [*known[: pair.count], *[None] * (len(primals) - pair.count)])
        pushed = [a if b is None else b if a is None else a + b for a, b in zip(pushed, around, strict=True)]
    return results, [ad.Zero(aval) if t is None else t for aval, t in zip(avals, pushed, strict=True)]


ad.primitive_transposes[linear_p] = _transpose
ad.primitive_jvps[linear_p] = _jvp
batching.primitive_batchers[linear_p] = _batch


@bprop(linear_p, cost="elementwise")
def planned_linear(op: Application, *cotangents: Any) -> list[Any]:
    pair = op.params["pair"]
    gradients: list[Any] = [None] * len(op.inputs)
    read = [n and is_differentiable(a) for n, a in zip(op.needs, op.in_avals, strict=True)]
    if not pair.proved and not op.linear:
        return pulled_back(pair.definition, op.inputs, read, cotangents)
    if any(op.needs[: pair.count]):
        needs = read[: pair.count] + [False] * (len(read) - pair.count)
        gradients = pulled_back(pair.definition, op.inputs, needs, cotangents)
    if any(op.needs[pair.count :]):
        seeds = [instantiate(ct, aval) for ct, aval in zip(cotangents, op.out_avals, strict=True)]
        gradients[pair.count :] = linear(pair.swapped, op.inputs[: pair.count], seeds)
    return gradients
