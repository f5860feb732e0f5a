"""The door `vjp`: a value and its pullback, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ckptgrad.bytes import Budget
from ckptgrad.doors.calling import Call, call_of_all, check_function, check_runs
from ckptgrad.doors.linear_maps import Pullback
from ckptgrad.doors.tracing import trace_chain
from ckptgrad.execution.interpreter import Execution, split_at_backward
from ckptgrad.graph.value_types import cotangent_struct
from ckptgrad.planner import make_plan
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.target.named import TargetChoice


def vjp(
    fun: Callable,
    *primals: Any,
    has_aux: bool = False,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    target: TargetChoice = None,
) -> tuple[Any, ...]:
    """The value of `fun` and a function from output cotangents to input cotangents.

    Args:
        fun: any JAX function of positional arguments.
        *primals: its arguments; all are differentiated.
        has_aux: whether `fun` returns (output, aux).
        budget, policy, saveable, costs, target: as for `value_and_grad`.

    Returns:
        (output, pullback), or (output, pullback, aux).  `pullback(ct)`, with `ct` of the structure
        of the output, returns a tuple of cotangents, one per primal; it can be called many times.
        The cotangent of integers, booleans and keys is float0.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> y, pullback = cg.vjp(jnp.sin, 0.0)
        >>> float(pullback(1.0)[0])
        1.0
    """
    request = Request(
        has_aux=has_aux, budget=budget, policy=policy, saveable=saveable, costs=costs, target=target, encodings=()
    )
    check_function(fun)
    return pull(call_of_all(fun, primals), request)


def pull(call: Call, request: Request) -> tuple[Any, ...]:
    """(output, pullback), or (output, pullback, aux), of a call; the pullback's results are those of its primals."""
    traced = trace_chain(call, request)
    program = traced.program
    check_runs(program.target, call.leaves)
    plan = make_plan(program, request)
    forward, backward = split_at_backward(plan.schedule)
    execution = Execution(program, call.leaves, plan.isolation).run(forward)
    value, aux = traced.restore([execution.output(a) for a in traced.graph.outputs])

    def run(*cotangents: Any) -> list[Any]:
        later = execution.fork()
        later.seed(cotangents)
        later.run(backward)
        return [later.gradient(v) for v in program.wrt]

    pullback = Pullback.of(traced, run, [cotangent_struct(v.aval) for v in program.seeds])
    return (value, pullback, aux) if request.has_aux else (value, pullback)
