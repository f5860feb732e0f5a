"""Forward mode: `jvp`, `linearize`, `hvp`.

For functions with more outputs than inputs forward mode is the cheaper one (Goodfellow 6.5.10); it
needs no storage, so no plan.  `hvp` goes forward over reverse, and its reverse part keeps a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.api import grad
from ckptgrad.arguments import has_gradient
from ckptgrad.autodiff.joint import joint, run_operations
from ckptgrad.autodiff.push import push
from ckptgrad.autodiff.reverse import active_variables, is_differentiable
from ckptgrad.autodiff.transpose import transposed
from ckptgrad.budget import Budget
from ckptgrad.errors import GradientTypeError
from ckptgrad.graph.evaluate import like_aval, needed_operations, read
from ckptgrad.graph.graph import Constant, Variable
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.planning.schedule import Schedule


def jvp(fun: Callable, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `fun` and its derivative in one direction, as `jax.jvp`.

    Args:
        fun: any JAX function of positional arguments.
        primals: a tuple or list of its arguments.
        tangents: the direction, of the structure, shapes and dtypes of `primals`; float0 for
            integers, booleans and keys.
        has_aux: whether `fun` returns (output, aux).

    Returns:
        (output, tangent of the output), or (output, tangent, aux).

    Raises:
        GradientTypeError: primals and tangents do not fit each other.
        MissingRuleError, NoDerivativeError: naming a primitive and the user's line.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> [float(v) for v in cg.jvp(jnp.sin, (0.0,), (2.0,))]
        [0.0, 2.0]
    """
    traced = _Traced(fun, primals, has_aux)
    outputs, found = push(traced.graph, traced.leaves, _directions(primals, tangents))
    return traced.results(outputs, found)


def linearize(fun: Callable, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `fun` and the linear map from tangents of its arguments, as `jax.linearize`.

    What does not depend on the tangents is computed once, here; the map is the transpose of the
    reverse sweep.

    Args:
        fun: any JAX function of positional arguments.
        *primals: its arguments.
        has_aux: whether `fun` returns (output, aux).

    Returns:
        (output, map), or (output, map, aux); `map(*tangents)` returns the tangent of the output.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> y, along = cg.linearize(jnp.sin, 0.0)
        >>> float(along(3.0))
        3.0
    """
    traced = _Traced(fun, primals, has_aux)
    graph = traced.graph
    wrt = [v for v in graph.inputs if is_differentiable(v.aval)]
    active = active_variables(graph, wrt)
    seeded = [i for i, a in enumerate(graph.outputs) if a in active]
    reverse = joint(graph, wrt, [graph.outputs[i] for i in seeded])
    env = {**reverse.constants, **dict(zip(reverse.inputs, traced.leaves, strict=True))}
    run_operations(needed_operations(reverse.forward_operations, [*reverse.outputs, *reverse.frontier]), env)
    outputs = [read(env, a) for a in reverse.outputs]
    kept = {v: env[v] for v in (*reverse.frontier, *reverse.constants)}

    def pull(*cotangents: Any) -> list[Any]:
        inside = {**kept, **dict(zip(reverse.cotangents, cotangents, strict=True))}
        run_operations(reverse.backward_operations, inside)
        return [None if g is None else read(inside, g) for g in reverse.gradients]

    def along(*tangents: Any) -> Any:
        directions = [t for t in _directions(primals, tangents) if t is not None]
        avals = [v.aval for v in reverse.cotangents]
        found: list[Any] = [None] * len(outputs)
        for i, t in zip(seeded, transposed(pull, avals, [True] * len(avals), directions), strict=True):
            found[i] = t
        return traced.results(outputs, found)[1]

    results = traced.results(outputs, [None] * len(outputs))
    return (results[0], along, *results[2:])


def hvp(
    fun: Callable,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    argnums: int | Sequence[int] = 0,
    *,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
) -> Any:
    """The product of the Hessian of a scalar function with a direction, forward over reverse.

    Args:
        fun: a function that returns a scalar.
        primals, tangents: as for `jvp`.
        argnums: which arguments the gradient is taken with respect to.
        budget, policy: as for `value_and_grad`, for the reverse part.

    Returns:
        The derivative of `grad(fun, argnums)(*primals)` in the direction `tangents`.

    Example:
        >>> import ckptgrad as cg
        >>> float(cg.hvp(lambda x: x**3, (2.0,), (1.0,)))
        12.0
    """
    return jvp(grad(fun, argnums, budget=budget, policy=policy), primals, tangents)[1]


class _Traced:
    """A traced call: its graph, and how to put results together again."""

    def __init__(self, fun: Callable, primals: Sequence[Any], has_aux: bool):
        if not isinstance(primals, (tuple, list)):
            raise GradientTypeError(f"primals must be a tuple or list of arguments, got {type(primals).__name__}")
        self.leaves, tree = jax.tree.flatten(tuple(primals))
        for leaf in self.leaves:
            has_gradient(leaf)
        trees: list[Any] = []

        def flat(*xs):
            out = fun(*jax.tree.unflatten(tree, xs))
            aux = None
            if has_aux:
                if not isinstance(out, tuple) or len(out) != 2:
                    raise GradientTypeError(f"with has_aux=True the function must return a pair (output, aux), got {out!r}")
                out, aux = out
            main, main_tree = jax.tree.flatten(out)
            extra, extra_tree = jax.tree.flatten(aux)
            trees[:] = [main_tree, extra_tree]
            return main + extra

        self.graph = from_jaxpr(jax.make_jaxpr(flat)(*self.leaves))
        self.out_tree, self.aux_tree = trees
        self.has_aux = has_aux

    def results(self, outputs: Sequence[Any], found: Sequence[Any]) -> tuple[Any, ...]:
        """(output, tangent[, aux]) as pytrees."""
        n = self.out_tree.num_leaves
        values = [_value(x, a) for x, a in zip(outputs, self.graph.outputs, strict=True)]
        moves = [_instantiated(t, a.aval) for t, a in zip(found[:n], self.graph.outputs[:n], strict=True)]
        pair = jax.tree.unflatten(self.out_tree, values[:n]), jax.tree.unflatten(self.out_tree, moves)
        return (*pair, jax.tree.unflatten(self.aux_tree, values[n:])) if self.has_aux else pair


def _value(value: Any, atom: Variable | Constant) -> Any:
    return like_aval(jnp.asarray(value, atom.aval.dtype) if isinstance(atom, Constant) else value, atom.aval)


def _instantiated(tangent: Any, aval: Any) -> Any:
    """A tangent of the type of its primal: zeros for None, float0 for integers."""
    if not dtypes.issubdtype(aval.dtype, jnp.inexact):
        return np.zeros(aval.shape, dtypes.float0)
    return like_aval(jnp.zeros(aval.shape, aval.dtype) if tangent is None else tangent, aval)


def _directions(primals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Tangents of the leaves, checked; None for leaves that have none."""
    if not isinstance(tangents, (tuple, list)):
        raise GradientTypeError(f"tangents must be a tuple or list, one an argument, got {type(tangents).__name__}")
    leaves, tree = jax.tree.flatten(tuple(primals))
    moves, moves_tree = jax.tree.flatten(tuple(tangents))
    if tree != moves_tree:
        raise GradientTypeError(f"the tangents have the structure {moves_tree}, but the primals have {tree}")
    found = []
    for x, t in zip(leaves, moves, strict=True):
        if not has_gradient(x):
            if getattr(t, "dtype", None) != dtypes.float0:
                raise GradientTypeError(
                    f"the tangent of a primal of dtype {getattr(x, 'dtype', type(x).__name__)} must have dtype float0 "
                    f"(np.zeros(shape, jax.dtypes.float0)), got {getattr(t, 'dtype', type(t).__name__)}"
                )
            found.append(None)
            continue
        primal, move = (jax.typeof(jnp.asarray(v)) for v in (x, t))
        weak = getattr(jax.typeof(t), "weak_type", False)
        if primal.shape != move.shape or (primal.dtype != move.dtype and not weak):
            raise GradientTypeError(
                f"a tangent has type {move.dtype}{list(move.shape)}, but its primal has {primal.dtype}{list(primal.shape)}"
            )
        found.append(jnp.asarray(t, primal.dtype))
    return found
