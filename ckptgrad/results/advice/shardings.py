"""How gradients lie over several devices, where their arguments are cut further."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ckptgrad.bytes import format_bytes
from ckptgrad.graph.naming import counted
from ckptgrad.results.advice.advice import Sentence, adviser

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

# Bytes of gradients are worth naming from this share of the peak on.
WORTH = 0.1


@adviser(order=3)
def advise(plan: Plan) -> Iterator[Sentence]:
    """What gradients take that lie on more devices than their arguments, as where parameters are cut (FSDP).

    They are returned as `jax.grad` returns them: under a mesh with automatic axes the partitioner decides how they lie, and
    nothing asks it to cut them.
    """
    program = plan.program
    if program.devices == 1:
        return
    target = program.target
    pairs = [(target.bytes_of(program.gradient_of(v)), target.bytes_of(v)) for v in dict.fromkeys(program.wrt)]
    wider = [(gradient, argument) for gradient, argument in pairs if gradient > argument]
    held, least = sum(gradient for gradient, _ in wider), sum(argument for _, argument in wider)
    if held - least < WORTH * plan.peak_bytes:
        return
    yield (
        f"{counted(len(wider), 'gradient')} lie on more devices than their arguments, as jax.grad returns them: "
        f"{format_bytes(held)} a device, {format_bytes(least)} where they lie as these; "
        "jax.lax.with_sharding_constraint on the arguments, at the start of the function, holds their gradients to it",
        {"gradients": len(wider), "bytes": held, "bytes_as_arguments": least},
    )
