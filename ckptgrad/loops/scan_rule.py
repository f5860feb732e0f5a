"""`scan`: forward mode in one scan; reverse mode as a plan says, or with every step stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.reach import moving_carry
from ckptgrad.autodiff.rule import Application
from ckptgrad.compat import scan_counts
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.work import elements, program_flops
from ckptgrad.loops.body import Step
from ckptgrad.loops.counters import last_of_steps
from ckptgrad.loops.entry_buffers import written_buffers
from ckptgrad.loops.planned import left_open
from ckptgrad.loops.scan import Scan
from ckptgrad.rules.decorators import instantiate, pullback
from ckptgrad.rules.subgraphs import active_outputs, carried, push_through, some, typed


def push_scan(op: Application, *tangents: Any):
    """Forward mode: one scan that carries values and tangents."""
    body = from_jaxpr(op.params["jaxpr"])
    n, c = scan_counts(op.params)
    needs = carried(body, op.needs, n, c)
    active = [*needs[n : n + c], *active_outputs(body, needs)[c:]]
    wanted = [a and w for a, w in zip(active, moving_carry(body, op.wanted_outputs, n, c), strict=True)]
    needs = [*needs[:n], *wanted[:c], *needs[n + c :]]
    run = push_through(body, needs, wanted)
    carry_avals = [v.aval for v in body.inputs[n : n + c]]
    moving = [i for i in range(c) if needs[n + i]]
    consts, t_consts = op.inputs[:n], [t for t in tangents[:n] if t is not None]

    def step(state, x):
        (carry, t_carry), (xs, t_xs) = state, x
        outputs, found = run([*consts, *carry, *xs], [*t_consts, *t_carry, *t_xs])
        return (outputs[:c], found[: len(moving)]), (outputs[c:], found[len(moving) :])

    init = typed(op.inputs[n : n + c], carry_avals), [instantiate(tangents[n + i], carry_avals[i]) for i in moving]
    xs = list(op.inputs[n + c :]), [t for t in tangents[n + c :] if t is not None]
    options = {k: op.params[k] for k in ("length", "reverse", "unroll")}
    (final, t_final), (ys, t_ys) = lax.scan(step, init, xs, **options)
    return [*final, *ys], some(wanted, [*t_final, *t_ys])


def scan_of(
    op: Operation,
    needs: Sequence[bool],
    planned: bool,
    accumulate: Any = None,
    wanted: Sequence[bool] | None = None,
) -> Scan:
    """A scan taken apart; `needs` says which operands have a gradient, `wanted` which results may get a cotangent."""
    params = op.params
    body, (n, c) = from_jaxpr(params["jaxpr"]), scan_counts(params)
    written = written_buffers(body, n, c, op.inputs[n : n + c], last_of_steps(params["length"])) if planned else ()
    step = Step(body, n, c, needs, planned, written, wanted)
    return Scan(
        step=step,
        operand_avals=tuple(a.aval for a in op.inputs),
        out_avals=tuple(v.aval for v in op.outputs),
        accumulate=accumulate,
        **{k: params[k] for k in ("length", "reverse", "unroll")},
    )


def _flops(ins: Sequence[Any], outs: Sequence[Any], params: Mapping[str, Any]) -> int:
    """The work of the body for each step; of a body that does nothing, that of its operands."""
    step = program_flops(params)
    return params["length"] * step if step else elements(ins, outs)


@pullback(p.scan_p, push=push_scan, cost="heavy", flops=_flops)
def scan(op: Application):
    # A side effect happens once: what may run a step again is not asked.
    planned = op.planned and not op.linear and op.params["length"] > 1 and not op.op.effects
    loop = scan_of(op.op, op.needs, planned, wanted=op.wanted)
    return left_open(loop, op.inputs) if planned else loop.reverse_plainly(op.inputs)
