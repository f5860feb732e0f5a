"""The door `checkpoint`: a planned function that JAX's own differentiation differentiates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from ckptgrad.bytes import Budget
from ckptgrad.doors.calling import call_of_all, check_function
from ckptgrad.doors.vjp import pull
from ckptgrad.graph.naming import argument_name, standing_for
from ckptgrad.graph.static import split_call
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request


def checkpoint(
    fun: Callable,
    *,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    saveable: Callable[..., Any] | None = None,
    costs: str = "auto",
) -> Callable:
    """`fun` with a planned backward pass, for `jax.grad`, `jax.vjp`, Flax, Equinox, optax and all that use these.

    Like `jax.checkpoint`, but what is stored and what is recomputed inside `fun` follows a plan, and under `jit` on
    CPU the recomputation really happens.

    Args:
        fun: any JAX function of arrays and pytrees; what it closes over is differentiated too.
        budget: bytes that `fun`'s own backward may hold beyond its arguments, as for `value_and_grad`.
        policy, saveable, costs: as for `value_and_grad`.

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
    request = Request(budget=budget, policy=policy, saveable=saveable, costs=costs)
    check_function(fun)

    @functools.wraps(fun)
    def planned(*args: Any, **kwargs: Any) -> Any:
        split = split_call(fun, args, kwargs)
        keywords = sorted(kwargs)

        def positional(*xs: Any) -> Any:
            return split.fun(*xs[: len(args)], **dict(zip(keywords, xs[len(args) :], strict=True)))

        names = [*(argument_name(fun, i, len(args), kwargs) for i in range(len(args))), *keywords]
        primals = (*split.args, *(split.kwargs[k] for k in keywords))
        closed, captured = _closed(standing_for(fun, positional, names), primals)
        run = jax.custom_vjp(closed)
        run.defvjp(
            lambda *xs: pull(call_of_all(closed, xs), request),
            lambda pullback, cotangents: pullback(cotangents),
        )
        return run(*primals, *captured)

    return planned


def _closed(fun: Callable, primals: tuple[Any, ...]) -> tuple[Callable, list[Any]]:
    """`fun` with the traced values that it closes over as further arguments, and these.

    A custom VJP may not close over what is differentiated.  `jax.closure_convert` does the same but remembers thousands
    of functions, with the arrays that they close over.
    """
    program, results = jax.make_jaxpr(fun, return_shape=True)(*primals)
    jaxpr, consts = program.jaxpr, list(program.consts)
    places = [i for i, const in enumerate(consts) if isinstance(const, Tracer)]
    traced = [consts[i] for i in places]
    for i in places:
        consts[i] = None
    tree, count = jax.tree.structure(results), len(primals)

    def closed(*args: Any) -> Any:
        values = list(consts)
        for i, value in zip(places, args[count:], strict=True):
            values[i] = value
        run = jaxpr_as_fun(ClosedJaxpr(jaxpr, values))
        return jax.tree.unflatten(tree, run(*jax.tree.leaves(args[:count])))

    return closed, traced
