"""Primitives of other packages: by their implementation, and those of Equinox (Diffrax's loops).

Rules are kept by the name of the primitive, so the packages need not be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jax import lax
from jax.extend.core import Primitive

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.of_function import pulled_back, pushed_forward
from ckptgrad.autodiff.rule import Application, Rule, register, registered, remedy
from ckptgrad.errors import NoDerivativeError
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.trace import trace
from ckptgrad.graph.traits import CostClass
from ckptgrad.graph.value_types import struct
from ckptgrad.rules.decorators import bprop, checked_class, linear, name_of, refused, zero


def use_implementation(primitive: Primitive | str, *, cost: CostClass | None = None) -> None:
    """Differentiate a third-party primitive by its Python implementation (`Primitive.def_impl`).

    The implementation is traced and differentiated like any other function, so nothing of JAX's
    differentiation is borrowed.  It must be made of operations that can be traced.  A primitive that
    already has such a rule is left as it is.

    Args:
        primitive: the primitive or its name.
        cost: its class of cost, as for `bprop_rule`.

    Raises:
        DuplicateRuleError: the primitive has a rule of another kind.
        OptionError: there is no such class of cost.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> from jax.extend.core import Primitive
        >>> from jax.interpreters import mlir
        >>> softly = Primitive("softly")
        >>> implementation = softly.def_impl(lambda x: jnp.sqrt(x**2 + 9))
        >>> aval = softly.def_abstract_eval(lambda x: x)
        >>> mlir.register_lowering(softly, mlir.lower_fun(implementation, multiple_results=False))
        >>> cg.use_implementation("softly")
        >>> round(float(cg.grad(softly.bind)(4.0)), 6)
        0.8
    """
    name = name_of(primitive)
    checked_class(cost)
    known = registered().get(name)
    if known is not None and known.kind == "defined":
        return
    register(Rule(name, "defined", bprop=_bprop, tangent=_tangent, reason="by its Python implementation", cost=cost))


def _impl(op: Operation) -> Callable[..., Any]:
    assert isinstance(op.primitive, Primitive)
    return op.primitive.impl


def _implementation(op: Application) -> Callable[..., Any]:
    def run(*inputs: Array) -> Any:
        out = _impl(op.op)(*inputs, **op.params)
        return list(out) if op.op.primitive.multiple_results else [out]

    return run


def _checked(op: Application) -> Callable[..., Any]:
    """The implementation, unless it uses the primitive itself (as JAX's own do), which would never end."""
    run = _implementation(op)
    if op.op.name in trace(run, *op.inputs).counts:
        raise NoDerivativeError(op.op.name, "its implementation is the primitive itself", op.op.source)
    return run


@remedy
def _its_implementation(op: Operation) -> str | None:
    """Advice where the primitive has an implementation that can be traced and does not use the primitive itself."""
    try:
        inside = trace(partial(_impl(op), **op.params), *(struct(a.aval) for a in op.inputs))
    except Exception:  # A package's code that meets tracers: it may refuse them in any way.
        return None
    if op.name in inside.counts:
        return None
    return f"ckptgrad.use_implementation('{op.name}'), which differentiates its Python implementation"


def _bprop(op: Application, *cotangents: Any) -> Sequence[Any]:
    return pulled_back(_checked(op), op.inputs, op.needs, cotangents)


def _tangent(op: Application, *tangents: Any) -> Sequence[Any]:
    return pushed_forward(_checked(op), op.inputs, tangents)


use_implementation("maybe_set", cost="elementwise")
zero("unvmap_all", "unvmap_any", "unvmap_max", "unvmap_min", cost="elementwise")
refused("nontraceable", "the package that made it says that it must not be transformed")


@linear("nonbatchable", cost="view")
def nonbatchable(op: Application, g: Array) -> Sequence[Entry]:
    return (g,)


@linear("select_if_vmap", cost="elementwise")
def select_if_vmap(op: Application, g: Array) -> Sequence[Entry]:
    """The first case, or under vmap the case that the predicate chooses; the zeros go the same way."""
    chosen, nothing = op.op.primitive, lax.full_like(g, 0)
    return None, lambda: chosen.bind(op.inputs[0], g, nothing), lambda: chosen.bind(op.inputs[0], nothing, g)


@bprop("nondifferentiable_backward", cost="view")
def nondifferentiable_backward(op: Application, g: Array) -> Sequence[Entry]:
    raise NoDerivativeError(op.op.name, op.params["msg"], op.op.source)
