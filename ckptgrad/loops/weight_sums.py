"""Gradients of a loop's constants summed over a group of steps at once.

A step's share in the gradient of a weight is a product A_t^T G_t, with few rows.  The sum over steps is one product of A
and G stacked along time: fewer and larger products, and the gradient is read and written once per group, not per step.
The price is the stack of G.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ckptgrad.graph.evaluate import apply, needed_operations, read
from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.loops.replay import Replay
from ckptgrad.once import once
from ckptgrad.rules.decorators import instantiate
from ckptgrad.rules.products import contracted
from ckptgrad.stage.partition import Run, run_operations

# Linear rearrangements of one operand, which commute with a sum over steps. Not the cost class `view`, which also holds
# what is not linear (`not`) or drops entries (`slice`).
_VIEWS = frozenset({"transpose", "reshape", "squeeze", "convert_element_type"})


@dataclass(frozen=True)
class _Viewed:
    """A value, and the views through which it is read, in order."""

    base: Variable
    views: tuple[Operation, ...]

    def of(self, stack: Any) -> Any:
        """The views of each entry of a stack of the value."""
        return jax.vmap(lambda x: _through(self.views, x))(stack) if self.views else stack


@dataclass(frozen=True)
class Term:
    """The gradient of one constant.

    Attributes:
        position: which of the active constants.
        gradient: its variable.
        product: the product that makes a step's share, or None where the share is linear in a single value.
        operands: what the product reads, or this value.
        after: the linear operations that lead from there to the share, in order.
    """

    position: int
    gradient: Variable
    product: Operation | None
    operands: tuple[_Viewed, ...]
    after: tuple[Operation, ...]

    def summed(self, stacks: Mapping[Variable, Any]) -> Any:
        """The gradient, summed over all steps of the stacks.

        Args:
            stacks: of what each operand is based on.
        """
        values = [operand.of(stacks[operand.base]) for operand in self.operands]
        if self.product is None:
            total = lax.reduce_sum(values[0], [0])
        else:
            params = self.product.params
            (a, b), _ = params["dimension_numbers"]
            along = tuple((0, *(i + 1 for i in axes)) for axes in (a, b))
            options = {k: params[k] for k in ("precision", "preferred_element_type")}
            total = contracted(values[0], values[1], along, ((), ()), out_sharding=None, **options)
        return _through(self.after, total)


class WeightSums:
    """The gradients of constants that wait for the end of a group of steps.

    Attributes:
        replay: a step, and what is kept of it.
        terms: the gradients that wait.
        stacked: the values that are stacked for them, besides what is stored of the step anyway.
    """

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self._operations = replay.part.backward_run.operations
        joint, body = replay.part.joint, replay.body
        readers: dict[Any, int] = {}
        for a in [*(a for op in self._operations for a in op.inputs), *joint.gradients]:
            if isinstance(a, Variable):
                readers[a] = readers.get(a, 0) + 1
        self._readers = readers
        self._makers = {v: op for op in self._operations for v in op.outputs}
        gradients = joint.gradients[: len(body.active_consts)]
        terms = (self._term(k, g) for k, g in enumerate(gradients) if isinstance(g, Variable))
        self.terms = [t for t in terms if t is not None]
        stored = {*self._entering, *replay.private}
        bases = dict.fromkeys(operand.base for term in self.terms for operand in term.operands)
        self.stacked = [v for v in bases if v not in stored]

    @property
    def _entering(self) -> dict[Variable, int]:
        """The carried values that are stored as they enter a step."""
        inputs, moving = self.replay.body.carry_inputs, self.replay.body.moving
        return {inputs[i]: i for i in self.replay.carry_reads if i in moving}

    def _term(self, position: int, gradient: Variable) -> Term | None:
        """The gradient of a constant as a term, if a step's share is a product or a sum of what can be stacked."""
        after: list[Operation] = []
        base = gradient
        op = self._makers.get(base)
        while op is not None and _rearranges(op) and self._readers[base] == 1 and isinstance(op.inputs[0], Variable):
            after.append(op)
            base = op.inputs[0]
            op = self._makers.get(base)
        if op is not None and _is_product(op) and self._readers[base] == 1:
            operands = [self._viewed(a) for a in op.inputs]
            if any(o is None or o.base in self.replay.body.invariant for o in operands):
                return None
            return Term(position, gradient, op, tuple(o for o in operands if o is not None), tuple(after[::-1]))
        if not any(op.name == "reduce_sum" for op in after):
            return None
        return Term(position, gradient, None, (_Viewed(base, ()),), tuple(after[::-1]))

    def _viewed(self, atom: Any) -> _Viewed | None:
        views: list[Operation] = []
        while isinstance(atom, Variable):
            op = self._makers.get(atom)
            if op is None or op.name not in _VIEWS:
                return _Viewed(atom, tuple(views[::-1]))
            views.append(op)
            atom = op.inputs[0]
        return None

    @once
    def _run(self) -> Run:
        """A step's backward without what waits."""
        waiting = {t.position for t in self.terms}
        gradients = self.replay.part.joint.gradients
        at_once = [g for k, g in enumerate(gradients) if k not in waiting and g is not None]
        made = variables_of([*at_once, *self.stacked])
        operations = needed_operations(self._operations, made)
        inside = {v for op in operations for v in op.outputs}
        return Run(tuple(operations), tuple(dict.fromkeys(v for v in made if v in inside)))

    @property
    def operations(self) -> Sequence[Operation]:
        """What a step's backward runs."""
        return self._run.operations

    def back(self, start: Mapping[Variable, Any]) -> tuple[list[Any], list[Any]]:
        """Gradients of one step (None for those that wait, and for zero), and the values of `stacked`.

        Args:
            start: what the backward of the step starts from, by variable.
        """
        env = dict(start)
        run_operations(self._run.operations, env)
        waiting = {t.position for t in self.terms}
        gradients = self.replay.part.joint.gradients
        ready = [None if g is None or k in waiting else read(env, g) for k, g in enumerate(gradients)]
        return ready, [env[v] for v in self.stacked]

    def add(self, sums: Sequence[Any], stacks: Sequence[Any], stored: Mapping[Variable, Any]) -> list[Any]:
        """Sums of gradients of constants with those of a group added.

        Args:
            sums: so far.
            stacks: of the values of `stacked`.
            stored: stacks of what is stored of each step.
        """
        every = {**stored, **dict(zip(self.stacked, stacks, strict=True))}
        totals = list(sums)
        for term in self.terms:
            totals[term.position] = jnp.add(totals[term.position], term.summed(every))
        return totals

    def room(self, rows: int) -> list[Any]:
        """Zeros for stacks of the values of `stacked`: rows that are not written add nothing."""
        return [instantiate(None, v.aval.update(shape=(rows, *v.aval.shape), weak_type=False)) for v in self.stacked]

    def stored(self, entering: Mapping[int, Any], private: Sequence[Any]) -> dict[Variable, Any]:
        """Stacks of what is stored of each step, by variable.

        Args:
            entering: of carried values as they enter a step, by position.
            private: of the values of `Replay.private`.
        """
        carried = {v: entering[i] for v, i in self._entering.items()}
        return {**carried, **dict(zip(self.replay.private, private, strict=True))}


def _is_product(op: Operation) -> bool:
    """Whether the sum of its results over steps is one product of stacks of its operands."""
    batched = op.name == "dot_general" and op.params["dimension_numbers"][1][0]
    return op.name == "dot_general" and not batched and op.params.get("out_sharding") is None


def _rearranges(op: Operation) -> bool:
    """Whether it is linear in a single operand, and cheap."""
    return op.name in _VIEWS or (op.name == "reduce_sum" and op.params.get("out_sharding") is None)


def _through(views: Sequence[Operation], value: Any) -> Any:
    for op in views:
        (value,) = apply(op, [value])
    return value
