"""The ways to write a derivative rule, over one registry.

`bprop`        a function (application, *cotangents) -> one entry per input
`elementwise`  one derivative per argument, f(g, y, *xs) -> g * dy/dx, linear in g
`linear`       the transpose of an operation that is linear in its float and complex arguments
`tangent`      a function (application, *tangents) -> one tangent per output
`defined`      a function (params, *inputs) -> outputs, made of primitives that have rules
`pullback`     a function (application) -> (outputs, pull), with forward mode beside it
`zero`         no derivative flows (comparisons, integer work, stop_gradient)
`refused`      an error that says why

Each serves reverse and forward mode: the other mode follows by transposition.  Each states beside the derivative what the
primitive costs (`cost=`, a class of `graph.traits`), and what it does to axes (`axes=`, `axes.statements`).

An entry is a cotangent, None for zero, or a function of no arguments, called only where the
cotangent is needed.  What a rule reads (inputs, outputs, neither) follows from tracing it.
Cotangents follow JAX's convention for complex numbers (the transpose, not the adjoint).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive

from ckptgrad.autodiff.of_function import pulled_back, pushed_forward
from ckptgrad.autodiff.rule import Application, Rule, register
from ckptgrad.autodiff.transpose import transposed
from ckptgrad.axes.families import elementwise as elementwise_axes
from ckptgrad.axes.statements import Axes, state_axes
from ckptgrad.errors import OptionError
from ckptgrad.graph.spread import Ring, state_ring
from ckptgrad.graph.traits import CLASSES, CostClass
from ckptgrad.graph.value_types import filled
from ckptgrad.graph.work import Count, state_flops


def name_of(primitive: Primitive | str) -> str:
    """The name of a primitive, under which its rule is kept."""
    return primitive if isinstance(primitive, str) else primitive.name


def checked_class(cost: CostClass | None) -> CostClass | None:
    """A user's class of cost.

    Raises:
        OptionError: there is no such class.
    """
    if cost is not None and cost not in CLASSES:
        raise OptionError(f"cost={cost!r} is unknown; there are {', '.join(CLASSES)}")
    return cost


def bprop(
    primitive: Primitive | str, *, cost: CostClass | None = None, flops: Count | None = None, axes: Axes | None = None
) -> Callable[[Callable], Callable]:
    """Register `rule(application, *cotangents) -> entries` for a primitive.

    Args:
        primitive: the primitive or its name.
        cost: what the primitive costs, which decides what is planned: "product", "heavy" or "random" (worth keeping),
            "reduction" or "gathering" (cheap, but with memory of their own), "transcendental", "elementwise", "view" (free
            to repeat); None for the class that was stated for the primitive before, else "elementwise".
        flops: `flops(operand_types, result_types, params)` counts the floating point operations, for estimates of time;
            None: one per element, or what the programs among the parameters count.
        axes: which entries of its operands each entry of its results needs, so that it may be run over chunks of an axis
            (`axes.statements`); None: it is run whole.

    Raises:
        DuplicateRuleError: the primitive has a rule already.
        OptionError: there is no such class of cost.

    Example:
        >>> from jax.extend.core import Primitive
        >>> from jax.interpreters import mlir
        >>> import ckptgrad as cg
        >>> double = Primitive("my_double")
        >>> aval = double.def_abstract_eval(lambda x: x)
        >>> mlir.register_lowering(double, mlir.lower_fun(lambda x: 2 * x, multiple_results=False))
        >>> @cg.bprop_rule("my_double", cost="elementwise")
        ... def my_double(op, g):
        ...     return (2 * g,)
        >>> float(cg.grad(double.bind)(1.5))
        2.0
    """
    checked_class(cost)

    def decorate(rule: Callable) -> Callable:
        register(Rule(name_of(primitive), "bprop", bprop=rule, cost=cost))
        if flops is not None:
            state_flops(name_of(primitive), flops)
        _state(primitive, axes)
        return rule

    return decorate


def _state(primitive: Primitive | str, axes: Axes | None) -> None:
    if axes is not None:
        state_axes(name_of(primitive), axes)


def pullback(
    primitive: Primitive | str, push: Callable, *, cost: CostClass, flops: Count | None = None, axes: Axes | None = None
) -> Callable[[Callable], Callable]:
    """Register `rule(application) -> (outputs, pull)` for a primitive that needs its own forward.

    `push(application, *tangents) -> (outputs, tangents)` is its forward mode.
    """

    def decorate(rule: Callable) -> Callable:
        register(Rule(name_of(primitive), "pullback", pullback=rule, push=push, cost=cost))
        if flops is not None:
            state_flops(name_of(primitive), flops)
        _state(primitive, axes)
        return rule

    return decorate


def tangent(primitive: Primitive | str, *, cost: CostClass) -> Callable[[Callable], Callable]:
    """Register `rule(application, *tangents) -> tangents`; reverse mode transposes it.

    The tangent of an input that is not differentiated is None; the rule may return None for a tangent that is zero.
    """

    def decorate(rule: Callable) -> Callable:
        def tangents_of(op: Application, *tangents: Any) -> Sequence[Any]:
            with _promoting():
                return rule(op, *tangents)

        def bprop(op: Application, *cotangents: Any) -> list[Any]:
            return transposed(lambda *tangents: tangents_of(op, *tangents), op.in_avals, op.needs, cotangents)

        register(Rule(name_of(primitive), "tangent", bprop=bprop, tangent=tangents_of, cost=cost))
        return rule

    return decorate


@contextmanager
def _promoting() -> Iterator[None]:
    """Rules mix ranks and dtypes, whatever promotion a user forbids."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def defined(primitive: Primitive | str, *, cost: CostClass) -> Callable[[Callable], Callable]:
    """Register `definition(params, *inputs) -> outputs` through primitives that have rules.

    It is differentiated, not evaluated: values come from the primitive itself.
    """

    def decorate(definition: Callable) -> Callable:
        def inner(op: Application) -> Callable:
            def run(*xs: Any) -> Any:
                with _promoting():
                    return definition(op.params, *xs)

            return run

        def bprop(op: Application, *cotangents: Any) -> list[Any]:
            return pulled_back(inner(op), op.inputs, op.needs, cotangents)

        def tangents_of(op: Application, *tangents: Any) -> Sequence[Any]:
            return pushed_forward(inner(op), op.inputs, tangents)

        register(Rule(name_of(primitive), "defined", bprop=bprop, tangent=tangents_of, cost=cost))
        return definition

    return decorate


def refused(primitive: Primitive | str, reason: str, *, cost: CostClass | None = None) -> None:
    """Register a primitive whose derivative is refused, and say why.

    It may still occur where no derivative is taken; `cost` is its cost class there, None if unknown.
    """
    register(Rule(name_of(primitive), "refused", reason=reason, cost=cost))


def elementwise(
    primitive: Primitive | str,
    *partials: Callable | None,
    cost: CostClass = "elementwise",
    axes: Axes | None = elementwise_axes,
) -> None:
    """Register an elementwise primitive by its derivatives, one per argument (None: zero).

    Each is `f(g, y, *xs)`: the cotangent g times the partial derivative at inputs xs, output y.
    Scalars that were broadcast get the sum; the result has the dtype of the input.
    """

    def rule(op: Application, g: Any) -> list[Any]:
        def entry(partial: Callable | None, aval: Any) -> Any:
            if partial is None:
                return None
            return lambda: match(partial(g, op.out, *op.inputs), aval)

        return [entry(p, a) for p, a in zip(partials, op.in_avals, strict=True)]

    register(Rule(name_of(primitive), "elementwise", bprop=rule, partials=partials, cost=cost))
    _state(primitive, axes)


# The same for a primitive that is slow to compute.
transcendental = partial(elementwise, cost="transcendental")


def linear(
    primitive: Primitive | str, *, cost: CostClass, ring: Ring | None = None, axes: Axes | None = None
) -> Callable[[Callable], Callable]:
    """Register the transpose of a primitive; the rule reads no input in which the primitive is linear.

    Of a collective `ring` tells what each device receives in it (`graph.spread`).
    """

    def decorate(rule: Callable) -> Callable:
        register(Rule(name_of(primitive), "linear", bprop=rule, cost=cost))
        if ring is not None:
            state_ring(name_of(primitive), ring)
        _state(primitive, axes)
        return rule

    return decorate


def zero(*primitives: Primitive | str, cost: CostClass, flops: Count | None = None, axes: Axes | None = None) -> None:
    """Register primitives through which no derivative flows."""
    for primitive in primitives:
        register(Rule(name_of(primitive), "zero", cost=cost))
        if flops is not None:
            state_flops(name_of(primitive), flops)
        _state(primitive, axes)


def match(ct: Any, aval: Any) -> Any:
    """Sum a cotangent over the axes along which a scalar or unit axis was broadcast, match dtype."""
    shape = ct.shape
    if shape != aval.shape:
        lead = len(shape) - len(aval.shape)
        axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(aval.shape) if n == 1 and shape[i + lead] != 1)
        ct = lax.reshape(lax.reduce_sum(ct, axes), aval.shape) if axes else ct
    return cast(ct, aval.dtype)


def cast(ct: Any, dtype: Any) -> Any:
    """Convert a cotangent, from complex to real by its real part."""
    if ct.dtype == dtype:
        return ct
    if jnp.issubdtype(ct.dtype, np.complexfloating) and not jnp.issubdtype(dtype, np.complexfloating):
        ct = lax.real(ct)
    return lax.convert_element_type(ct, dtype)


def const(like: Any, value: Any) -> Any:
    """A scalar of the dtype of an array; it stays a literal in a trace."""
    return np.array(value, like.dtype)


def instantiate(ct: Any, aval: Any) -> Any:
    """The cotangent or tangent, or zeros of the aval where it is None."""
    return filled(aval) if ct is None else ct
