# pyright: reportUnknownMemberType=false
"""The body of a `shard_map` in parts: runs of operations, each a `shard_map`, and loops, each around `shard_map`s.

A loop stands outside with its steps mapped, so that it is reversed as any loop is: by a plan.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from ckptgrad.chain.cut import find_cuts
from ckptgrad.chain.shard_maps.alike import alike_carries, alike_values, is_alike
from ckptgrad.chain.shard_maps.lying import Lying, differs_along, kept
from ckptgrad.chain.shard_maps.views import Outside, View
from ckptgrad.compat import scan_counts
from ckptgrad.graph.evaluate import apply, like_aval, read
from ckptgrad.graph.graph import Atom, Constant, Graph, Operation, Variable, variables_of
from ckptgrad.graph.source import at_line_of
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.once import once
from ckptgrad.rules.sharded import Mapped, under_mesh
from ckptgrad.target.target import Target

_WHOLE = Lying(P())


@dataclass(frozen=True, eq=False)
class Parts:
    """A body in parts.

    Attributes:
        op: the `shard_map`.
        body: its body, or that of a loop in it.
        target: what is compiled for.
        ins, outs: how what the body reads and returns lies outside.
        views: those values of the body that are seen outside.
    """

    op: Mapped
    body: Graph
    target: Target
    ins: Sequence[Lying]
    outs: Sequence[Lying]
    views: Mapping[Variable, View] = field(default_factory=dict[Variable, View])

    @property
    def several(self) -> bool:
        """Whether there is more than one part, or a loop outside."""
        return len(self.segments) > 1 or any(map(self.is_loop, self.segments))

    @once
    def segments(self) -> list[Sequence[Operation]]:
        """The operations of each part."""
        operations = [o for o in self.body.operations if self.views.keys().isdisjoint(o.outputs)]
        loops = [k for k, o in enumerate(operations) if self.is_loop([o])]
        cuts = {
            *find_cuts(Graph([*self.body.inputs, *self.views], self.body.outputs, operations), self.target),
            *loops,
            *(k + 1 for k in loops),
        }
        edges = [0, *sorted(cuts - {0, len(operations)}), len(operations)]
        return [operations[a:b] for a, b in itertools.pairwise(edges)]

    @once
    def entries(self) -> dict[Atom, Any]:
        """The types of the entries of what loops read one by one."""
        return {
            a: v.aval
            for (o,) in filter(self.is_loop, self.segments)
            if o.name == "scan"
            for a, v in list(zip(o.inputs, from_jaxpr(o.params["jaxpr"]).inputs, strict=True))[sum(scan_counts(o.params)) :]
        }

    def is_loop(self, segment: Sequence[Operation]) -> bool:
        """Whether a part is a loop that can stand outside, and is worth a plan."""
        if len(segment) != 1 or segment[0].effects or not any(map(_is_inexact, segment[0].outputs)):
            return False
        (o,) = segment
        if o.name == "scan":
            return o.params["length"] > 1 and not from_jaxpr(o.params["jaxpr"]).constants
        if o.name != "while":
            return False
        predicate, step = from_jaxpr(o.params["cond_jaxpr"]), from_jaxpr(o.params["body_jaxpr"])
        # Each device may go on for as long as it likes: all must be known to do the same.
        return not (predicate.constants or step.constants) and self._goes_on_alike(o, predicate)

    def _goes_on_alike(self, o: Operation, predicate: Graph) -> bool:
        """Whether the devices run a loop for equally many steps: as types say, or as is proved where there are none."""
        if self.op.params["check_vma"]:
            return not differs_along(self.op, predicate.outputs[0].aval)
        k = o.params["cond_nconsts"]
        given = [*(is_alike(a, self.alike) for a in o.inputs[:k]), *self.alike_carries(o)]
        found = alike_values(self.op, predicate, [v for v, same in zip(predicate.inputs, given, strict=True) if same])
        return is_alike(predicate.outputs[0], found)

    @once
    def alike(self) -> set[Variable]:
        """The values of the body that are known to be the same on all devices."""
        return alike_values(
            self.op, self.body, [v for v, lies in zip(self.body.inputs, self.ins, strict=True) if lies.is_whole]
        )

    def alike_carries(self, o: Operation) -> list[bool]:
        """Which values that a `while` carries are."""
        k, n = o.params["cond_nconsts"], o.params["body_nconsts"]
        consts, init = ([is_alike(a, self.alike) for a in atoms] for atoms in (o.inputs[k : k + n], o.inputs[k + n :]))
        return alike_carries(self.op, from_jaxpr(o.params["body_jaxpr"]), consts, init)

    def run(self, *args: Any) -> list[Any]:
        """The results of the body, from its arguments as they lie outside."""
        return _Run(self, args).results()


class _Run:
    """The parts, one after the other."""

    def __init__(self, parts: Parts, args: Sequence[Any]) -> None:
        self.parts, self.op, self.outputs = parts, parts.op, parts.body.outputs
        # The values that cross from one part to another, outside, and how they lie there.
        self.env = Outside(dict(zip(parts.body.inputs, args, strict=True)), parts.views)
        self.lying: dict[Atom, Lying] = dict(zip(parts.body.inputs, parts.ins, strict=True))
        self.lying.update((v, view.lies) for v, view in parts.views.items())

    def results(self) -> list[Any]:
        """All parts, and what the body returns."""
        results: dict[int, Any] = {}
        segments = self.parts.segments
        for number, operations in enumerate(segments):
            with at_line_of(operations[0].source_info if operations else None):
                if self.parts.is_loop(operations):
                    self._loop(operations[0])
                else:
                    after = [o for segment in segments[number + 1 :] for o in segment]
                    self._straight(operations, after, results)
        self._straight((), (), results)
        return [results[k] if k in results else read(self.env, a) for k, a in enumerate(self.outputs)]

    def _straight(self, operations: Sequence[Operation], after: Sequence[Operation], results: dict[int, Any]) -> None:
        """A run of operations as a `shard_map`, which adds what it returns; the last one all that is left to return."""
        made = {v for o in operations for v in o.outputs}
        returned = [
            k for k, a in enumerate(self.outputs) if a in made or not (after or k in results or self._is_returned(k))
        ]
        later = {v for o in after for v in variables_of(o.inputs)}
        crossing = {v: self._crossing(v) for o in operations for v in o.outputs if v in later}
        if not operations and not returned:
            return
        reads = [a for o in operations for a in o.inputs] + [self.outputs[k] for k in returned]

        def segment(inner: dict[Variable, Any]) -> list[Any]:
            for o in operations:
                inner.update(zip(o.outputs, apply(o, [read(inner, a) for a in o.inputs]), strict=True))
            return [_value(inner, a) for a in (*(self.outputs[k] for k in returned), *crossing)]

        lying = [*(self.parts.outs[k] for k in returned), *crossing.values()]
        mapped = self._mapped(segment, [v for v in variables_of(reads) if v not in made], lying)
        results.update(zip(returned, mapped, strict=False))
        self.lying.update(crossing.items())
        self.env.update(zip(crossing, mapped[len(returned) :], strict=True))

    def _mapped(self, run: Any, reads: Sequence[Variable], lying: Sequence[Lying]) -> Sequence[Any]:
        """What a function of an environment gives in the body, as it is to lie outside."""
        reads = [*dict.fromkeys(reads)]

        def body(*values: Any) -> tuple[Any, ...]:
            inner = {v: self.lying[v].enter(x) for v, x in zip(reads, values, strict=True)}
            return tuple(lies.leave(x) for lies, x in zip(lying, run(inner), strict=True))

        specs = [self.lying[v].spec for v in reads], [lies.spec for lies in lying]
        return under_mesh(self.op, body, *specs)(*(self.env[v] for v in reads))

    def _is_returned(self, k: int) -> bool:
        """Whether a result lies already as it shall."""
        a = self.outputs[k]
        return a in self.lying and self.lying[a].same(self.parts.outs[k])

    def _crossing(self, v: Variable) -> Lying:
        """How a value lies that a run of operations makes for later parts."""
        entries = self.parts.entries
        return kept(self.op, entries[v]).stack if v in entries else kept(self.op, v.aval)

    def _loop(self, o: Operation) -> None:
        lying, values = self._scan(o) if o.name == "scan" else self._while(o)
        self.lying.update(zip(o.outputs, lying, strict=True))
        self.env.update(zip(o.outputs, values, strict=True))

    def _scan(self, o: Operation) -> tuple[list[Lying], Sequence[Any]]:
        n, c = scan_counts(o.params)
        body = from_jaxpr(o.params["jaxpr"])
        consts = [self._constant(a) for a in o.inputs[:n]]
        carry = [self._carried(a, v.aval) for a, v in zip(o.inputs[n : n + c], body.outputs, strict=False)]
        entries = [self._entry(a, v.aval) for a, v in zip(o.inputs[n + c :], body.inputs[n + c :], strict=True)]
        made = [kept(self.op, a.aval) for a in body.outputs[c:]]
        operands = self._laid(o.inputs, [*consts, *carry, *(lies.stack for lies in entries)])
        step = Parts(self.op, body, self.parts.target, [*consts, *carry, *entries], [*carry, *made])

        def turn(state: Sequence[Any], x: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            outputs = _like(step.run(*operands[:n], *state, *x), body.outputs)
            return outputs[:c], outputs[c:]

        options = {name: o.params[name] for name in ("length", "reverse", "unroll")}
        final, ys = lax.scan(turn, _like(operands[n : n + c], body.outputs[:c]), operands[n + c :], **options)
        return [*carry, *(lies.stack for lies in made)], [*final, *ys]

    def _while(self, o: Operation) -> tuple[list[Lying], Sequence[Any]]:
        k, n = o.params["cond_nconsts"], o.params["body_nconsts"]
        predicate, body = from_jaxpr(o.params["cond_jaxpr"]), from_jaxpr(o.params["body_jaxpr"])
        consts = [self._constant(a) for a in o.inputs[: k + n]]
        carry = [self._carried(a, v.aval) for a, v in zip(o.inputs[k + n :], body.outputs, strict=True)]
        if not self.op.params["check_vma"]:
            counted = [
                same and not _is_inexact(a) for a, same in zip(body.outputs, self.parts.alike_carries(o), strict=True)
            ]
            carry = [_WHOLE if c else lies for lies, c in zip(carry, counted, strict=True)]
        operands = self._laid(o.inputs, [*consts, *carry])
        step = Parts(self.op, body, self.parts.target, [*consts[k:], *carry], carry)
        going = Parts(self.op, predicate, self.parts.target, [*consts[:k], *carry], [_WHOLE])

        def turn(state: Sequence[Any]) -> list[Any]:
            return _like(step.run(*operands[k : k + n], *state), body.outputs)

        init = _like(operands[k + n :], body.outputs)
        return carry, lax.while_loop(lambda state: going.run(*operands[:k], *state)[0], turn, init)

    def _constant(self, a: Atom) -> Lying:
        """How a constant of a loop lies: its gradient, if any, is to be summed over devices once, not in each step."""
        lies = self.lying.get(a, _WHOLE)
        typed = self.op.params["check_vma"]
        return lies if typed or not _is_inexact(a) or self._differs(lies, a.aval) else kept(self.op, a.aval)

    def _carried(self, a: Atom, aval: Any) -> Lying:
        """How a carried value lies: as it does before the loop, if each device can keep its own there."""
        lies = self.lying.get(a)
        return lies if lies is not None and self._differs(lies, aval) else kept(self.op, aval)

    def _entry(self, a: Atom, aval: Any) -> Lying:
        """How the entries of a stack lie."""
        return (self.lying[a].entry if a in self.lying else None) or kept(self.op, aval)

    def _differs(self, lies: Lying, aval: Any) -> bool:
        return lies.cuts_along(differs_along(self.op, aval))

    def _laid(self, atoms: Sequence[Atom], wanted: Sequence[Lying]) -> list[Any]:
        """Values as they are to lie; those that do not are returned anew, which sends nothing."""
        moved = [k for k, (a, lies) in enumerate(zip(atoms, wanted, strict=True)) if not self._lies(a, lies)]
        values = {k: _value(self.env, a) for k, a in enumerate(atoms) if k not in moved}
        if moved:

            def run(inner: dict[Variable, Any]) -> list[Any]:
                return [_value(inner, atoms[k]) for k in moved]

            mapped = self._mapped(run, variables_of(atoms[k] for k in moved), [wanted[k] for k in moved])
            values.update(zip(moved, mapped, strict=True))
        return [values[k] for k in range(len(atoms))]

    def _lies(self, a: Atom, wanted: Lying) -> bool:
        # A number has no mesh in its type, and what a loop carries on has one, where axes are explicit.
        stated = isinstance(a, Constant) and AxisType.Explicit in self.op.params["mesh"].axis_types
        return not stated and wanted.same(self.lying.get(a, _WHOLE))


def _is_inexact(a: Atom) -> bool:
    return bool(jnp.issubdtype(a.aval.dtype, jnp.inexact))


def _value(env: Mapping[Variable, Any], a: Atom) -> Any:
    """The value of an atom as an array of its type; that of a constant may be a number."""
    return like_aval(jnp.asarray(a.value, a.aval.dtype) if isinstance(a, Constant) else read(env, a), a.aval)


def _like(values: Sequence[Any], atoms: Sequence[Atom]) -> list[Any]:
    return [like_aval(x, a.aval) for x, a in zip(values, atoms, strict=True)]
