"""`while`: forward mode in one loop, reverse mode by a counted first pass and a few stored states.

The first pass counts the steps.  The backward pass stores SLOTS states evenly, goes back through
the segments between them, the last first, and does the same inside each segment, LEVELS deep; what
is still longer than one step below that is run from its start for each step.  So a loop of n steps
holds SLOTS * LEVELS states and runs each step at most LEVELS + 2 times up to SLOTS ** LEVELS steps;
longer loops take longer, never more memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.joint import partition
from ckptgrad.graph.graph import Graph
from ckptgrad.graph.registry import Application
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.rules.kinds import instantiate, pullback
from ckptgrad.rules.subgraphs import carried, joint_of, push_through, some, typed

SLOTS = 16
LEVELS = 3

State = list[Any]
Gradients = tuple[list[Any], list[Any]]


class _Loop:
    """A while operation taken apart."""

    def __init__(self, op: Application):
        self.predicate = from_jaxpr(op.params["cond_jaxpr"])
        self.body = from_jaxpr(op.params["body_jaxpr"])
        self.offset, self.count = op.params["cond_nconsts"], op.params["body_nconsts"]
        k, n = self.offset, self.count
        self.cond_consts, self.consts = op.inputs[:k], op.inputs[k : k + n]
        self.avals = [v.aval for v in self.body.inputs[n:]]
        self.init = typed(op.inputs[k + n :], self.avals)
        self.needs = carried(self.body, op.needs[k:], n, len(self.avals))
        self.moving = self.needs[n:]

    def goes_on(self, state: State) -> Any:
        return self.predicate(*self.cond_consts, *state)[0]


def push_while(op: Application, *tangents: Any):
    """Forward mode: one loop that carries values and tangents."""
    loop = _Loop(op)
    k, n = loop.offset, loop.count
    run = push_through(loop.body, loop.needs, loop.moving)
    present = [t for t in tangents[k : k + n] if t is not None]
    t_init = [instantiate(t, a) for t, a, m in zip(tangents[k + n :], loop.avals, loop.moving, strict=True) if m]

    def step(state):
        values, moving = state
        return run([*loop.consts, *values], [*present, *moving])

    final, found = lax.while_loop(lambda state: loop.goes_on(state[0]), step, (loop.init, t_init))
    return final, some(loop.moving, found)


@pullback(p.while_p, push=push_while)
def while_(op: Application):
    loop = _Loop(op)

    def counted(state):
        steps, values = state
        return steps + 1, typed(loop.body(*loop.consts, *values), loop.avals)

    steps, final = lax.while_loop(lambda state: loop.goes_on(state[1]), counted, (jnp.int32(0), loop.init))

    def pull(*cotangents):
        back = _Backward(loop.body, loop.needs, loop.consts, loop.avals)
        ct = [instantiate(c, a) for c, a, m in zip(cotangents, loop.avals, loop.moving, strict=True) if m]
        ct, sums = back.through(LEVELS, loop.init, steps, (ct, back.zeros()))
        found = [*some(loop.needs[: loop.count], sums), *some(loop.moving, ct)]
        return [None] * loop.offset + found

    return final, pull


class _Backward:
    """The backward pass over a loop whose number of steps is known at run time."""

    def __init__(self, body: Graph, needs: Sequence[bool], consts: Sequence[Any], avals: Sequence[Any]):
        n = len(consts)
        self.consts, self.avals, self.moving = consts, avals, needs[n:]
        seeded = [i for i, m in enumerate(self.moving) if m]
        self.part = partition(joint_of(body, needs, seeded), ())
        self.reads = [self.part.joint.inputs.index(v) for v in self.part.reads]
        self.summed = [v.aval for v, k in zip(body.inputs[:n], needs[:n], strict=True) if k]

    def zeros(self) -> list[Any]:
        return [instantiate(None, a) for a in self.summed]

    def advance(self, state: State, steps: Any) -> State:
        """The state so many steps later; effects happened in the first pass."""

        def step(_, values):
            outputs, _ = self.part.run_forward([*self.consts, *values], again=True)
            return typed(outputs, self.avals)

        return lax.fori_loop(0, steps, step, list(state))

    def step_back(self, state: State, gradients: Gradients) -> Gradients:
        ct, sums = gradients
        values = [*self.consts, *state]
        found = self.part.run_backward([], [values[i] for i in self.reads], ct)
        split = len(self.summed)
        sums = [s if d is None else jnp.add(s, d) for s, d in zip(sums, found[:split], strict=True)]
        moving = [a for a, m in zip(self.avals, self.moving, strict=True) if m]
        return [instantiate(d, a) for d, a in zip(found[split:], moving, strict=True)], sums

    def through(self, level: int, state: State, steps: Any, gradients: Gradients) -> Gradients:
        """Gradients at `state` from those `steps` steps later."""
        if level == 0:
            return _countdown(steps, lambda k, g: self.step_back(self.advance(state, k), g), gradients)
        stride = jnp.maximum(-(-steps // SLOTS), 1)
        segments = -(-steps // stride)

        def length(k):
            return jnp.minimum(stride, steps - k * stride)

        def store(k, carry):
            stored, values = carry
            stored = [lax.dynamic_update_index_in_dim(s, v, k, 0) for s, v in zip(stored, values, strict=True)]
            return stored, self.advance(values, length(k))

        slots = [jnp.broadcast_to(v, (SLOTS, *jnp.shape(v))) for v in state]
        stored, _ = lax.fori_loop(0, segments, store, (slots, list(state)))

        def segment(k, g):
            start = jax.tree.map(lambda s: lax.dynamic_index_in_dim(s, k, 0, keepdims=False), stored)
            return self.through(level - 1, start, length(k), g)

        return _countdown(segments, segment, gradients)


def _countdown(count: Any, run: Callable[[Any, Any], Any], state: Any) -> Any:
    """run(count - 1, ...), ..., run(0, ...)."""
    return lax.fori_loop(0, count, lambda i, s: run(count - 1 - i, s), state)
