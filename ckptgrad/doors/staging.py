"""Gradients that run stage by stage: where that was asked for, or compiling one program would take long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jax.core import Tracer

from ckptgrad.doors.compiling import Cut
from ckptgrad.doors.tracing import TracedChain
from ckptgrad.errors import StagedError
from ckptgrad.execution.certified import Certified
from ckptgrad.execution.staged.gradient import StagedGradient
from ckptgrad.execution.tiers.tier import Tier
from ckptgrad.graph.naming import title
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan
from ckptgrad.target.processes import several_processes

# Operations of the function from which on compiling its gradient as one program takes longer than most want to wait: a
# compiler takes a millisecond or more for each of those that a plan runs, forwards, repetitions and backwards.
LONG = 4000


def runs_staged(chain: TracedChain, request: Request) -> bool:
    """Whether a call runs stage by stage.

    Raises:
        StagedError: it was asked to, inside a transformation.
    """
    if request.runtime == "compiled":
        return False
    traced = any(isinstance(x, Tracer) for x in (*chain.call.leaves, *chain.graph.constants.values()))
    if request.runtime == "staged":
        if traced:
            raise StagedError.inside_a_transformation()
        return True
    can = not traced and chain.program.devices == 1 and not several_processes() and not chain.returned.reads_references
    return can and (bool(request.tiers) or len(chain.graph.operations) >= LONG)


def check_repeatable(chain: TracedChain) -> None:
    """Refuse to compile what would do something else when it is called again.

    Raises:
        StagedError: the function reads or writes a mutable reference from outside, whose value was read while it was traced.
    """
    if chain.returned.reads_references:
        raise StagedError(
            f"{title(chain.call.original)} uses a mutable reference from outside, which a gradient that is compiled stage "
            f"by stage would not read again; call the gradient without .compile, or use runtime='compiled'"
        )


def staged_cut(
    chain: TracedChain, request: Request, assembled: Callable[[TracedChain, Sequence[Any], Sequence[Any]], Any]
) -> Cut:
    """A way to cut a call, whose plans run stage by stage; it holds none of the call's arrays.

    Args:
        chain: the call.
        request: with the tiers, and who is told of the progress.
        assembled: what the caller gets, from the call, its gradients and its outputs.
    """
    assemble = partial(assembled, chain.without_arrays())
    tiers = tuple(tier for tier in request.tiers if isinstance(tier, Tier))

    def staged(plan: Plan) -> StagedGradient:
        return StagedGradient(plan.program, plan.schedule, assemble, request.progress, tiers, plan.moving_bytes)

    return Cut(chain.program, staged, staged=True)


def with_runs(certified: Certified) -> Certified:
    """The plan that was chosen, with runs of its steps as one program each where that is faster.

    Only of that one: for plans that are tried on the way these programs would be compiled in vain.
    """
    return replace(certified, executable=certified.executable.in_runs())
