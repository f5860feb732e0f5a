"""How the loops of a stage may be reversed: plans of different bytes and seconds.

A loop of equal steps is a uniform chain.  Its plans are two nested loops, binomial checkpointing of groups of steps
(Griewank and Walther 2000), or every step stored, each with any of the save options of one step, found as those of a
stage are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from ckptgrad.graph.graph import Variable, variables_of
from ckptgrad.loops.body import Kept, Step
from ckptgrad.loops.planned import Costed, open_loops, stored_by, with_plans
from ckptgrad.loops.reversals.checkpoints import Stack
from ckptgrad.loops.reversals.online import Online
from ckptgrad.loops.reversals.store_all import StoreAll
from ckptgrad.loops.scan import Scan
from ckptgrad.loops.weight_sums import Deferral
from ckptgrad.planning.policies.revolve import extra_forwards
from ckptgrad.stage.joint import Joint
from ckptgrad.stage.partition import Partition, partition
from ckptgrad.stage.save_options import Saveable, residual_choices
from ckptgrad.target.footprint import peak_inside
from ckptgrad.target.rates import Machine

# Plans of a loop that are offered to the planner, and those of a loop inside another one's step.
MOST_PLANS, MOST_INNER = 40, 4
# Plans that are this near in bytes and seconds are alike.
ALIKE = 1.02
# Plans slower than the fastest by this factor are not offered.
SLOWEST = 20.0
# Plans larger than the smallest in two levels by this factor are not looked at.
LARGEST = 32
# Steps for which the plans of a loop of unknown length are compared.
USUAL_LENGTH = 1024
# Seconds a byte: at this price bytes alone count.
_ENDLESS = 1e12


def planned_choices(
    joint: Joint, boundary: Collection[Variable], machine: Machine, saveable: Saveable | None = None
) -> Iterator[tuple[str, Partition]]:
    """What to keep of a joint graph (`residual_choices`), with each of the plans for its loops."""
    offered = assignments(joint, machine, saveable, MOST_PLANS)
    joints = [with_plans(joint, plans) for _, plans in offered]
    middle = joints[len(joints) // 2]
    stored, choices = stored_by(middle), residual_choices(middle, boundary, machine, saveable)
    among_stored = {v for variables in stored.values() for v in variables}
    for (loops, _), planned in zip(offered, joints, strict=True):
        there = stored_by(planned)
        for name, keep in choices:
            # What a plan stores is kept whole or not at all.
            whole = [v for loop, variables in stored.items() if {*variables} <= {*keep} for v in there[loop]]
            same = [v for v in keep if v not in among_stored]
            yield f"{loops}, {name}" if loops else name, partition(planned, [*same, *whole])


def assignments(joint: Joint, machine: Machine, saveable: Saveable | None, most: int) -> list[tuple[str, dict[Any, Costed]]]:
    """Plans for all open loops of a joint graph together, from fast ones to small ones."""
    loops = open_loops(joint)
    if not loops:
        return [("", {})]
    fronts = [thinned(loop_plans(loop, machine, saveable), most) for loop in loops]
    if len(fronts) == 1:
        return [(p.name, {loops[0]: p.costed}) for p in fronts[0]]
    found: dict[tuple[int, ...], tuple[str, dict[Any, Costed]]] = {}
    for price in _prices(fronts):
        chosen = [min(front, key=lambda p: p.seconds + price * p.bytes) for front in fronts]
        key = tuple(id(p) for p in chosen)
        name = " and ".join(dict.fromkeys(p.name for p in chosen))
        found[key] = name, {loop: p.costed for loop, p in zip(loops, chosen, strict=True)}
    # Evenly from all, the fastest and the smallest among them.
    every = [*found.values()]
    places = np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)
    return [every[i] for i in places]


def _prices(fronts: Sequence[Sequence[Candidate]]) -> list[float]:
    """Seconds a byte, at which some loop goes over from one plan to another."""
    found = {0.0, _ENDLESS}
    for front in fronts:
        for a in front:
            smaller = [b for b in front if b.bytes < a.bytes and b.seconds > a.seconds]
            found |= {(b.seconds - a.seconds) / (a.bytes - b.bytes) for b in smaller}
    return sorted(found)


class Candidate:
    """A plan of one loop.

    Attributes:
        seconds: estimated time in all.
        stored: bytes that are stored between forward and backward.
        bytes: what the plan takes in all.
        make: its name and the plan with its costs.
    """

    __slots__ = ("_made", "bytes", "make", "seconds", "stored")

    def __init__(self, seconds: float, stored: int, bytes: int, make: Callable[[], tuple[str, Costed]]):
        self.seconds, self.stored, self.bytes, self.make = seconds, stored, bytes, make
        self._made: tuple[str, Costed] | None = None

    @property
    def name(self) -> str:
        return self._plan[0]

    @property
    def costed(self) -> Costed:
        return self._plan[1]

    @property
    def _plan(self) -> tuple[str, Costed]:
        self._made = self._made or self.make()
        return self._made


def thinned(candidates: list[Candidate], most: int) -> list[Candidate]:
    """The fastest first; of those that are alike in bytes, the fastest, and of all the smallest.

    Most are told apart by bytes in all; a few more by what is stored between forward and backward, which is what counts
    where other stages run between.
    """
    fastest = min(c.seconds for c in candidates)
    offered = [c for c in candidates if c.seconds <= SLOWEST * fastest]
    ordered = sorted(offered, key=lambda c: (c.seconds, c.bytes))
    few = most // 4
    kept = {*_unlike(ordered, most - few, lambda c: 0), *_unlike(ordered, few, lambda c: (c.stored + 1).bit_length() // 8)}
    kept.add(min(offered, key=lambda c: (c.bytes, c.seconds)))
    return [c for c in ordered if c in kept]


def _unlike(ordered: Sequence[Candidate], most: int, size: Callable[[Candidate], int]) -> list[Candidate]:
    """Those that no faster one of their size, or a smaller one, equals in bytes."""
    kept, alike = _apart(ordered, 1.0, size), ALIKE
    while len(kept) > most:
        kept, alike = _apart(kept, alike, size), 1 + 1.25 * (alike - 1)
    return kept


def _apart(ordered: Sequence[Candidate], alike: float, size: Callable[[Candidate], int]) -> list[Candidate]:
    kept: list[Candidate] = []
    # For each size the fewest bytes of those that are kept and no larger.
    fewest = [math.inf] * 16
    for c in ordered:
        k = size(c)
        if fewest[k] > alike * c.bytes:
            kept.append(c)
            fewest[k:] = [min(f, c.bytes) for f in fewest[k:]]
    return kept


def loop_plans(loop: Any, machine: Machine, saveable: Saveable | None) -> list[Candidate]:
    """All plans of one loop."""
    step: Step = loop.step
    steps: list[_OneStep] = []
    seen: set[tuple[Variable, ...]] = set()
    for inner, plans in assignments(step.joint, machine, saveable, MOST_INNER):
        joint = with_plans(step.joint, plans)
        for _, keep in residual_choices(joint, step.carry_inputs, machine, saveable):
            part = partition(joint, [v for v in keep if v not in step.invariant])
            if not plans and part.residuals in seen:
                continue
            seen.add(part.residuals)
            kept = Kept(step, part)
            steps.append(_OneStep(kept, machine, loop, inner))
            deferral = Deferral(kept)
            if deferral.terms:
                steps.append(_OneStep(kept, machine, loop, inner, deferral))
    best = [s for k, s in enumerate(steps) if not any(o.beats(s, j < k) for j, o in enumerate(steps) if j != k)]
    return [candidate for s in best for candidate in s.candidates()]


class _OneStep:
    """Seconds and bytes of one step with one save option."""

    def __init__(self, kept: Kept, machine: Machine, loop: Any, inner: str, deferral: Deferral | None = None):
        self.deferral = deferral
        self.kept, self.loop, self.machine, self.inner = kept, loop, machine, inner
        self.length = loop.length if isinstance(loop, Scan) else USUAL_LENGTH
        part, step, joint = kept.part, kept.step, kept.part.joint
        carried = variables_of(joint.outputs[: step.num_carry])
        plain = partition(joint, ()).forward_run(again=True, unwanted=kept.stacked_only)
        again = part.forward_run(again=True, unwanted=[v for v in kept.stacked_only if v not in kept.private])
        waiting = set() if deferral is None else {term.position for term in deferral.terms}
        gradients = variables_of(g for k, g in enumerate(joint.gradients) if g is not None and k not in waiting)
        back = part.backward_run.operations if deferral is None else deferral.operations
        # A sum is read, and written, and its term read.
        adding = sum(3 * g.nbytes for g in gradients[: len(step.active_consts) - len(waiting)])
        self.plain = machine.warm_seconds(plain.operations, carried)
        stacks = len(kept.private) + len({*kept.carry_reads, *kept.next_reads})
        self.keep = machine.warm_seconds(again.operations, [*carried, *kept.private]) + stacks * machine.launch
        self.back = machine.warm_seconds(back, gradients) + adding / machine.read_rate
        self.back += (stacks + len(step.active_consts) - len(waiting)) * machine.launch
        self.waiting, self.sums = 0, 0
        if deferral is not None:
            # Each is written once and read once; the products take as long as they would in each step.
            self.waiting = sum(v.nbytes for v in deferral.stacked)
            self.sums = sum(term.nbytes for term in deferral.terms)
            products = sum(machine.arithmetic(term.product) for term in deferral.terms if term.product is not None)
            self.back += products + 2 * self.waiting / machine.read_rate + len(deferral.stacked) * machine.launch
        avals = step.body.inputs[step.num_consts : step.num_consts + step.num_carry]
        self.state = sum(avals[i].nbytes for i in step.moving)
        self.private = sum(v.nbytes for v in kept.private)
        self.read = sum(avals[i].nbytes for i in {*kept.carry_reads, *kept.next_reads} & {*step.moving})
        self.forward_inside = self.state + max(0, peak_inside(plain.operations, joint.inputs, carried))
        # Gradients that are added in place take no memory of their own.
        in_place = [joint.gradients[k] for k in step.indexed]
        given = {*joint.inputs, *part.residuals, *joint.cotangents, *variables_of(a for a in in_place if a is not None)}
        self.backward_inside = self.state + max(0, peak_inside(back, given, gradients))

    def beats(self, other: _OneStep, ties: bool) -> bool:
        """Whether it is worse in nothing, and better in something unless `ties` count."""
        ours, theirs = self._sizes, other._sizes
        return all(a <= b for a, b in zip(ours, theirs, strict=True)) and (ties or ours != theirs)

    @property
    def _sizes(self) -> tuple[float, ...]:
        return self._each, max(self.backward_inside, self.sums), self.sums, self.plain, self.keep + self.back

    def candidates(self) -> Iterator[Candidate]:
        if isinstance(self.loop, Scan) and self.deferral is None and not self.kept.step.written:
            yield self.store_all()
        # Two levels that take the least, and what takes so much more that it cannot be faster.
        even = max(1, min(self.length - 1, round(math.sqrt(self.length * self.state / max(self._each, 1)))))
        most = LARGEST * (self._inside(even) + -(-self.length // even) * self.state)
        for group in _grid(self.length - 1, 7):
            if self._inside(group) <= most:
                yield from self.stacks(group, most)

    def store_all(self) -> Candidate:
        length, machine = self.length, self.machine
        stored = length * (self.private + self.read)
        fresh = stored * (1 / machine.write_rate - 1 / machine.read_rate)
        seconds = length * self.keep + fresh, length * self.back

        def make() -> tuple[str, Costed]:
            plan = StoreAll(self.kept)
            return self._named("every step stored"), Costed(
                plan, seconds[0], self.forward_inside, seconds[1], self.backward_inside
            )

        return Candidate(sum(seconds), stored, stored + max(self.forward_inside, self.backward_inside), make)

    @property
    def _each(self) -> int:
        """Bytes of one step of a group."""
        return self.private + self.read + self.waiting

    def _inside(self, group: int) -> int:
        """Bytes that are held beside checkpoints."""
        return (group + 1) * self._each + max(self.backward_inside, self.sums)

    def stacks(self, group: int, most: float) -> Iterator[Candidate]:
        """With groups of so many steps: two levels, then fewer and fewer checkpoints, of `most` bytes."""
        length, groups = self.length, -(-self.length // group)
        each, inside = self._each, self._inside(group)
        # Sums once a group; and what does not stay near from one pass through a group to the next.
        far = max(0.0, 1 - self.machine.cache / max(inside, 1))
        adding = (3 * self.sums * groups + far * 2 * length * each) / self.machine.read_rate
        forward = length * self.plain
        backward = length * (self.keep + self.back) + adding
        for slots in (groups, *reversed(_grid(groups - 1, 5))):
            if slots * self.state > most:
                continue
            again = _extra_forwards(groups, slots) - (groups - 1)
            seconds = backward + again * group * self.plain
            if forward + seconds > SLOWEST * (forward + backward):
                return
            state = 0 if slots >= groups and isinstance(self.loop, Scan) else self.state
            held = inside + state
            total = slots * self.state + max(held, self.forward_inside)
            make = partial(self._stack, slots, group, groups, forward, seconds, held)
            yield Candidate(forward + seconds, slots * self.state, total, make)

    def _stack(self, slots: int, group: int, groups: int, forward: float, backward: float, held: int) -> tuple[str, Costed]:
        known = isinstance(self.loop, Scan)
        plan = (Stack if known else Online)(self.kept, slots, group, self.deferral)
        name = f"{slots} x {group} steps" if known and slots >= groups else f"{slots} checkpoints, {group} steps"
        return self._named(name), Costed(plan, forward, self.forward_inside, backward, held)

    def _named(self, name: str) -> str:
        return f"{name} ({self.inner})" if self.inner else name


_extra_forwards = cache(extra_forwards)


def _grid(most: int, parts: int) -> list[int]:
    """1, 2, ... up to `most`, a part of so many further each time."""
    found, k = [], 1
    while k <= most:
        found.append(k)
        k += max(1, k // parts)
    return found
