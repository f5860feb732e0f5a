"""Forward mode: `jvp`, `linearize`, `hvp`.

For functions with more outputs than inputs forward mode is the cheaper one (Goodfellow 6.5.10); it
stores nothing, so that there is nothing to plan.  `hvp` goes forward over reverse, and its reverse part keeps a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ckptgrad.autodiff.forward_mode import push_tangents
from ckptgrad.autodiff.reverse import active_variables, is_differentiable
from ckptgrad.autodiff.transpose import transposed
from ckptgrad.bytes import Budget
from ckptgrad.doors.calling import Call, call_of_all, check_function, check_runs, split_arguments
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.doors.linear_maps import OF_JVP, Closure, Linearized, TangentOutput, TangentPrimals, instantiated
from ckptgrad.doors.tracing import trace_graph
from ckptgrad.errors import GradientTypeError, MismatchError
from ckptgrad.graph.evaluate import needed_operations, read
from ckptgrad.graph.naming import title
from ckptgrad.graph.static_arguments import SplitCall
from ckptgrad.graph.value_types import cotangent_struct
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import run_operations
from ckptgrad.target.named import TargetChoice


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
    check_function(fun)
    kinds = type(primals).__name__, type(tangents).__name__
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise GradientTypeError(
            f"primal and tangent arguments to jax.jvp must be tuples or lists; found {' and '.join(kinds)}. Give one entry "
            f"per argument of {title(fun)}"
        )
    if isinstance(primals, tuple) != isinstance(tangents, tuple):
        raise MismatchError(f"{OF_JVP.tree}, but are a {' and a '.join(kinds)}")
    return push_along(call_of_all(fun, primals), tangents, has_aux)


def push_along(call: Call, tangents: Sequence[Any], has_aux: bool) -> tuple[Any, ...]:
    """(output, tangent of the output[, aux]) of a call, in a direction of its primals."""
    of_primals = TangentPrimals.of(call).leaves_of(tangents, OF_JVP)
    leaves: list[Any] = [None] * len(call.leaves)
    for k, t in zip(call.selected, of_primals, strict=True):
        leaves[k] = t
    traced = trace_graph(call, has_aux)
    outputs, of_outputs = push_tangents(traced.graph, call.leaves, leaves)
    output, aux = traced.restore(outputs)
    ends = TangentOutput.of(traced)
    tangent = ends.restore([t for t, a in zip(of_outputs, ends.avals, strict=False) if is_differentiable(a)])
    return (output, tangent, aux) if has_aux else (output, tangent)


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
    check_function(fun)
    call = call_of_all(fun, primals)
    traced = trace_graph(call, has_aux)
    graph = traced.graph
    wrt = [v for v in graph.inputs if is_differentiable(v.aval)]
    active = active_variables(graph, wrt)
    seeded = [i for i, a in enumerate(graph.outputs) if a in active]
    reverse = joint(graph, wrt, [graph.outputs[i] for i in seeded])
    env = {**reverse.constants, **dict(zip(reverse.inputs, call.leaves, strict=True))}
    run_operations(needed_operations(reverse.forward_operations, [*reverse.outputs, *reverse.frontier]), env)
    outputs = [read(env, a) for a in reverse.outputs]
    kept = {v: env[v] for v in (*reverse.frontier, *reverse.constants)}
    avals = [v.aval for v in reverse.cotangents]

    def back(*cotangents: Any) -> list[Any]:
        inside = {**kept, **dict(zip(reverse.cotangents, cotangents, strict=True))}
        run_operations(reverse.backward_operations, inside)
        return [None if g is None else read(inside, g) for g in reverse.gradients]

    def along(*tangents: Any) -> list[Any]:
        of_outputs: list[Any] = [None] * len(outputs)
        for i, t in zip(seeded, transposed(back, avals, [True] * len(avals), tangents), strict=True):
            of_outputs[i] = t
        without_aux = zip(of_outputs, traced.outputs, strict=False)
        return [instantiated(t, a.aval) for t, a in without_aux if is_differentiable(a.aval)]

    closure = Closure(along, [cotangent_struct(v.aval) for v in wrt])
    linear = Linearized(closure, TangentPrimals.of(call), TangentOutput.of(traced))
    output, aux = traced.restore(outputs)
    return (output, linear, aux) if has_aux else (output, linear)


def hvp(
    fun: Callable,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    argnums: int | Sequence[int] = 0,
    *,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    target: TargetChoice = None,
) -> Any:
    """The product of the Hessian of a scalar function with a direction, forward over reverse.

    Args:
        fun: a function that returns a scalar.
        primals, tangents: as for `jvp`.
        argnums: which arguments the gradient is taken with respect to.
        budget, policy, target: as for `value_and_grad`, for the gradient that is differentiated. They bound nothing here:
            in its derivative nothing keeps a compiler from merging what the plan repeats.

    Returns:
        The derivative of `grad(fun, argnums)(*primals)` in the direction `tangents`.

    Example:
        >>> import ckptgrad as cg
        >>> float(cg.hvp(lambda x: x**3, (2.0,), (1.0,)))
        12.0
    """
    check_function(fun)
    request = Request(argnums, budget=budget, policy=policy, target=target, encodings=())
    # The gradient is traced, whatever is given here.
    check_runs(request.compiled_for, (primals, tangents))
    split = split_arguments(fun, primals, {}, request.argnums)
    if split.kept:
        fun, primals, tangents = split.fun, split.args, _of_what_is_traced(split, tangents)
    return jvp(GradientFunction(fun, request, with_value=False), tuple(primals), tuple(tangents))[1]


def _of_what_is_traced(split: SplitCall, tangents: Sequence[Any]) -> list[Any]:
    """Tangents without those of leaves that are not traced, whatever was given for them."""
    return [
        split.kept[i].traced_part(t) if i in split.kept and jax.tree.structure(t) == split.kept[i].treedef else t
        for i, t in enumerate(tangents)
    ]
