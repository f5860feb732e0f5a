"""`while`: forward mode in one loop; reverse mode from checkpoints that are placed while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.forward_mode import push
from ckptgrad.autodiff.reach import moving_carry
from ckptgrad.autodiff.reverse import forward
from ckptgrad.autodiff.rule import Application
from ckptgrad.autodiff.transpose import pull_from
from ckptgrad.graph.evaluate import read
from ckptgrad.graph.graph import Graph, Operation
from ckptgrad.graph.trace import from_jaxpr, struct
from ckptgrad.loops.body import Step
from ckptgrad.loops.counters import last_by_predicate
from ckptgrad.loops.entry_buffers import written_buffers
from ckptgrad.loops.planned import left_open
from ckptgrad.loops.while_loop import While
from ckptgrad.rules.decorators import instantiate, pullback
from ckptgrad.rules.subgraphs import push_through, some, typed


def while_of(op: Operation, needs: Sequence[bool], planned: bool, accumulate: Any = None) -> While:
    """A while taken apart; `needs` says which operands have a gradient."""
    k, n = op.params["cond_nconsts"], op.params["body_nconsts"]
    body, predicate = from_jaxpr(op.params["body_jaxpr"]), from_jaxpr(op.params["cond_jaxpr"])
    c = len(body.inputs) - n
    written = written_buffers(body, n, c, op.inputs[k + n :], last_by_predicate(predicate, k)) if planned else ()
    step = Step(body, n, c, needs[k:], planned, written)
    return While(
        step=step,
        operand_avals=tuple(a.aval for a in op.inputs),
        out_avals=tuple(v.aval for v in op.outputs),
        offset=k,
        accumulate=accumulate,
        predicate=predicate,
    )


def _together(op: Application) -> Graph | None:
    """The loop with one predicate for all, where `vmap` has given each entry its own: what has ended stays as it is."""
    if not op.params["cond_jaxpr"].out_avals[0].shape:
        return None
    k, n = op.params["cond_nconsts"], op.params["body_nconsts"]
    predicate, body = from_jaxpr(op.params["cond_jaxpr"]), from_jaxpr(op.params["body_jaxpr"])

    def run(*operands: Any) -> Any:
        def goes_on(carry: Any) -> Any:
            return predicate(*operands[:k], *carry)[0]

        def step(carry: Any) -> list[Any]:
            going = goes_on(carry)
            found = typed(body(*operands[k : k + n], *carry), [a.aval for a in body.outputs])
            which = [going.reshape(going.shape + (1,) * (x.ndim - going.ndim)) for x in found]
            return [jnp.where(w, new, old) for w, new, old in zip(which, found, carry, strict=True)]

        return lax.while_loop(lambda carry: goes_on(carry).any(), step, list(operands[k + n :]))

    return from_jaxpr(jax.make_jaxpr(run)(*map(struct, op.in_avals)))


def push_while(op: Application, *tangents: Any):
    """Forward mode: one loop that carries values and tangents."""
    together = _together(op)
    if together is not None:
        return push(together, op.inputs, tangents, op.wanted)
    loop = while_of(op.op, op.needs, False)
    k, n = loop.offset, loop.step.num_consts
    body, needs, avals = loop.step.body, loop.step.needs, loop.step.carry_avals
    moving = [a and w for a, w in zip(needs[n:], moving_carry(body, op.wanted_outputs, n, len(avals)), strict=True)]
    run = push_through(body, [*needs[:n], *moving], moving)
    consts, init, _ = loop.divide(op.inputs)
    present = [t for t in tangents[k : k + n] if t is not None]
    t_init = [instantiate(t, a) for t, a, m in zip(tangents[k + n :], avals, moving, strict=True) if m]

    def step(state):
        values, found = state
        return run([*consts, *values], [*present, *found])

    final, found = lax.while_loop(lambda state: loop.goes_on(op.inputs, state[0]), step, (init, t_init))
    return final, some(moving, found)


@pullback(p.while_p, push=push_while, cost="heavy")
def while_(op: Application):
    together = _together(op)
    if together is not None:
        wrt = [v for v, n in zip(together.inputs, op.needs, strict=True) if n]
        tape = forward(together, op.inputs, wrt, planned=op.planned, linear=op.linear)
        return [read(tape.env, a) for a in together.outputs], lambda *cts: some(op.needs, pull_from(tape, cts, wrt))
    # A side effect happens once: what may run a step again is not asked.
    planned = op.planned and not op.linear and not op.op.effects
    loop = while_of(op.op, op.needs, planned)
    return left_open(loop, op.inputs) if planned else loop.reverse_plainly(op.inputs)
