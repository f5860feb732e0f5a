"""The door `checkpoint`: a planned function that JAX's own differentiation differentiates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import dtypes

from ckptgrad.api import check_options, costs_of, outputs_of, seeds_by_variable
from ckptgrad.arguments import Traced, float0_zeros, make_call, trace_call
from ckptgrad.budget import Budget
from ckptgrad.plan import Plan, make_plan
from ckptgrad.planning.schedule import Schedule
from ckptgrad.runtime.compiled import Execution, split_at_backward


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
    check_options(budget, policy, "compiled", costs)

    @functools.wraps(fun)
    def planned(*args: Any, **kwargs: Any) -> Any:
        leaves, treedef = jax.tree.flatten((args, kwargs))
        trees: list[Any] = []

        def flat(*xs: Any) -> tuple[Any, ...]:
            a, k = jax.tree.unflatten(treedef, xs)
            out, tree = jax.tree.flatten(fun(*a, **k))
            trees[:] = [tree]
            return tuple(out)

        # What the function closes over becomes an argument: a custom VJP may not close over what is differentiated.
        closed, captured = jax.closure_convert(flat, *leaves)
        door = _Planned(closed, budget, policy, saveable, costs)
        return jax.tree.unflatten(trees[0], door.call(*map(_as_array, (*leaves, *captured))))

    return planned


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)


@dataclass(frozen=True)
class _Planned:
    """A function of arrays that returns a tuple of arrays, with a planned VJP."""

    fun: Callable
    budget: Budget
    policy: str | Callable | Schedule
    saveable: Callable[..., Any] | None
    costs: str

    def call(self, *args: Any) -> Any:
        run = jax.custom_vjp(self.fun)
        run.defvjp(self.forward, self.backward)
        return run(*args)

    def forward(self, *args: Any) -> tuple[Any, Any]:
        call = make_call(self.fun, args, {}, tuple(range(len(args))))
        traced = trace_call(call, False, saveable=self.saveable)
        costs = costs_of(traced.program, self.costs)
        plan = make_plan(traced.program, self.budget, self.policy, costs)
        before, _ = split_at_backward(plan.schedule)
        execution = Execution(traced.program, call.leaves).run(before)
        return outputs_of(traced, execution)[0], _Paused(_Suspended(traced, plan, execution))

    def backward(self, paused: _Paused, cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
        traced, plan, execution = paused.state.traced, paused.state.plan, paused.state.execution
        pairs = zip(traced.program.graph.outputs, cotangents, strict=True)
        inexact = [ct for atom, ct in pairs if dtypes.issubdtype(atom.aval.dtype, jnp.inexact)]
        later = execution.fork()
        later.seed(seeds_by_variable(traced, inexact))
        later.run(split_at_backward(plan.schedule)[1])
        found = iter([later.gradient(v) for v in traced.program.wrt])
        wanted = set(traced.differentiated)
        return tuple(next(found) if k in wanted else float0_zeros(x) for k, x in enumerate(traced.call.args))


@dataclass(frozen=True, eq=False)
class _Suspended:
    """A schedule between its forward and its backward part."""

    traced: Traced
    plan: Plan
    execution: Execution


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class _Paused:
    """A suspended schedule as a pytree of the arrays that it holds."""

    state: _Suspended

    def tree_flatten(self) -> tuple[list[Any], Any]:
        return self.state.execution.arrays(), self.state

    @classmethod
    def tree_unflatten(cls, state: _Suspended, arrays: list[Any]) -> _Paused:
        return cls(_Suspended(state.traced, state.plan, state.execution.with_arrays(arrays)))
