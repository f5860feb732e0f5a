"""The door `checkpoint`: a planned function that JAX's own differentiation differentiates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from ckptgrad.bytes import Budget
from ckptgrad.doors.calling import Call, call_of_all, call_of_none, check_function
from ckptgrad.doors.tracing import trace_program
from ckptgrad.doors.vjp import pull
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.target.named import TargetChoice


def checkpoint(
    fun: Callable,
    *,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    target: TargetChoice = None,
) -> Callable:
    """`fun` with a planned backward pass, for `jax.grad`, `jax.vjp`, Flax, Equinox, optax and all that use these.

    Like `jax.checkpoint`, but what is stored and what is recomputed inside `fun` follows a plan, and under `jit` on
    CPU the recomputation really happens.

    Args:
        fun: any JAX function of arrays and pytrees; what it closes over is differentiated too.
        budget: bytes that `fun`'s own backward may hold beyond its arguments, as for `value_and_grad`.
        policy, saveable, costs, target: as for `value_and_grad`.

    Returns:
        A function with the arguments and results of `fun`.  It has a custom VJP: reverse mode works, any number of
        times; forward mode (`jax.jvp`) does not.

    Raises:
        BudgetError: when differentiated, if the budget is below what is feasible.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> block = cg.checkpoint(lambda w, x: x + jnp.tanh(x @ w), policy="recompute_all")
        >>> jax.grad(lambda w, x: block(w, x).sum())(jnp.zeros((2, 2)), jnp.ones((1, 2))).shape
        (2, 2)
    """
    request = Request(budget=budget, policy=policy, saveable=saveable, costs=costs, target=target, encodings=())
    check_function(fun)

    @functools.wraps(fun)
    def planned(*args: Any, **kwargs: Any) -> Any:
        call = call_of_none(fun, args, kwargs)
        closed, captured = _closed(call)
        run = jax.custom_vjp(closed)
        run.defvjp(
            lambda *leaves: pull(call_of_all(closed, leaves), request),
            lambda pullback, cotangents: pullback(cotangents),
        )
        return run(*call.leaves, *captured)

    return planned


def _closed(call: Call) -> tuple[Callable, list[Any]]:
    """A call as a function of its leaves and of the traced values that the function closes over, and these values.

    A custom VJP may not close over what is differentiated.  `jax.closure_convert` does the same but remembers thousands
    of functions, with the arrays that they close over.
    """
    program, returned = trace_program(call)
    jaxpr, constants, count = program.jaxpr, list(program.consts), len(call.leaves)
    places = [i for i, constant in enumerate(constants) if isinstance(constant, Tracer)]
    captured = [constants[i] for i in places]
    for i in places:
        constants[i] = None

    def closed(*leaves: Any) -> Any:
        values = list(constants)
        for i, value in zip(places, leaves[count:], strict=True):
            values[i] = value
        return returned.restore(jaxpr_as_fun(ClosedJaxpr(jaxpr, values))(*leaves[:count]))[0]

    return closed, captured
