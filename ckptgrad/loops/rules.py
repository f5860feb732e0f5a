"""`scan` and `while`: forward mode in one loop; reverse mode as a plan says, or as `plain` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.forward_mode import push_tangents
from ckptgrad.autodiff.reach import moving_carry
from ckptgrad.autodiff.reverse import forward
from ckptgrad.autodiff.rule import Application
from ckptgrad.autodiff.transpose import pull_from
from ckptgrad.compat import scan_counts
from ckptgrad.graph.evaluate import read
from ckptgrad.graph.graph import Graph
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import struct
from ckptgrad.graph.work import elements, program_flops
from ckptgrad.loops.plain import reverse_plainly
from ckptgrad.loops.planned import left_open
from ckptgrad.loops.scan import scan_of
from ckptgrad.loops.while_loop import while_of
from ckptgrad.rules import program_axes
from ckptgrad.rules.decorators import instantiate, pullback
from ckptgrad.rules.subgraphs import active_outputs, carried, push_through, some, typed


def push_scan(op: Application, *tangents: Any) -> tuple[list[Any], list[Any]]:
    """Forward mode: one scan that carries values and tangents."""
    body = from_jaxpr(op.params["jaxpr"])
    n, c = scan_counts(op.params)
    needs = carried(body, op.needs, n, c)
    active = [*needs[n : n + c], *active_outputs(body, needs)[c:]]
    used = [a and u for a, u in zip(active, moving_carry(body, op.used_outputs, n, c), strict=True)]
    needs = [*needs[:n], *used[:c], *needs[n + c :]]
    run = push_through(body, needs, used)
    carry_avals = [v.aval for v in body.inputs[n : n + c]]
    moving = [i for i in range(c) if needs[n + i]]
    consts, t_consts = op.inputs[:n], [t for t in tangents[:n] if t is not None]

    def step(state: Any, x: Any) -> Any:
        (carry, t_carry), (xs, t_xs) = state, x
        outputs, t_outputs = run([*consts, *carry, *xs], [*t_consts, *t_carry, *t_xs])
        return (outputs[:c], t_outputs[: len(moving)]), (outputs[c:], t_outputs[len(moving) :])

    init = typed(op.inputs[n : n + c], carry_avals), [instantiate(tangents[n + i], carry_avals[i]) for i in moving]
    xs = list(op.inputs[n + c :]), [t for t in tangents[n + c :] if t is not None]
    options = {k: op.params[k] for k in ("length", "reverse", "unroll")}
    (final, t_final), (ys, t_ys) = lax.scan(step, init, xs, **options)
    return [*final, *ys], some(used, [*t_final, *t_ys])


def _flops(ins: Sequence[Any], outs: Sequence[Any], params: Mapping[str, Any]) -> int:
    """The work of the body for each step; of a body that does nothing, that of its operands."""
    step = program_flops(params)
    return params["length"] * step if step else elements(ins, outs)


@pullback(p.scan_p, push=push_scan, cost="heavy", flops=_flops, axes=program_axes.scan)
def scan(op: Application) -> tuple[list[Any], Callable[..., list[Any]]]:
    # A side effect happens once: no plan that may run a step again is asked for.
    planned = op.planned and not op.linear and op.params["length"] > 1 and not op.op.effects
    loop = scan_of(op.op, op.needs, planned, used=op.used)
    if planned and not loop.body.joint.is_repeatable:
        planned, loop = False, scan_of(op.op, op.needs, False, used=op.used)
    return left_open(loop, op.inputs) if planned else reverse_plainly(loop, op.inputs)


def _together(op: Application) -> Graph | None:
    """The loop with one predicate for all entries, where `vmap` has given each its own: those that have ended stay."""
    if not op.params["cond_jaxpr"].out_avals[0].shape:
        return None
    k, n = op.params["cond_nconsts"], op.params["body_nconsts"]
    predicate, body = from_jaxpr(op.params["cond_jaxpr"]), from_jaxpr(op.params["body_jaxpr"])

    def run(*operands: Any) -> Any:
        def goes_on(carry: Any) -> Any:
            return predicate(*operands[:k], *carry)[0]

        def step(carry: Any) -> list[Any]:
            going = goes_on(carry)
            after = typed(body(*operands[k : k + n], *carry), [a.aval for a in body.outputs])
            which = [going.reshape(going.shape + (1,) * (x.ndim - going.ndim)) for x in after]
            return [jnp.where(w, new, old) for w, new, old in zip(which, after, carry, strict=True)]

        return lax.while_loop(lambda carry: goes_on(carry).any(), step, list(operands[k + n :]))

    return from_jaxpr(jax.make_jaxpr(run)(*map(struct, op.in_avals)))


def push_while(op: Application, *tangents: Any) -> tuple[list[Any], list[Any]]:
    """Forward mode: one loop that carries values and tangents."""
    together = _together(op)
    if together is not None:
        return push_tangents(together, op.inputs, tangents, op.used)
    loop = while_of(op.op, op.needs, False)
    k, n = loop.offset, loop.body.num_consts
    body, needs, avals = loop.body.graph, loop.body.needs, loop.body.carry_avals
    moving = [a and u for a, u in zip(needs[n:], moving_carry(body, op.used_outputs, n, len(avals)), strict=True)]
    run = push_through(body, [*needs[:n], *moving], moving)
    consts, init, _ = loop.divide(op.inputs)
    present = [t for t in tangents[k : k + n] if t is not None]
    t_init = [instantiate(t, a) for t, a, m in zip(tangents[k + n :], avals, moving, strict=True) if m]

    def step(state: Any) -> Any:
        values, t_values = state
        return run([*consts, *values], [*present, *t_values])

    final, t_final = lax.while_loop(lambda state: loop.goes_on(op.inputs, state[0]), step, (init, t_init))
    return final, some(moving, t_final)


@pullback(p.while_p, push=push_while, cost="heavy")
def while_(op: Application) -> tuple[list[Any], Callable[..., list[Any]]]:
    together = _together(op)
    if together is not None:
        wrt = [v for v, n in zip(together.inputs, op.needs, strict=True) if n]
        tape = forward(together, op.inputs, wrt, planned=op.planned, linear=op.linear)
        return [read(tape.env, a) for a in together.outputs], lambda *cts: some(op.needs, pull_from(tape, cts, wrt))
    # A side effect happens once: no plan that may run a step again is asked for.
    planned = op.planned and not op.linear and not op.op.effects
    loop = while_of(op.op, op.needs, planned, used=op.used)
    loop.check_repeatable(op.op.name, op.op.source)
    return left_open(loop, op.inputs) if planned else reverse_plainly(loop, op.inputs)
