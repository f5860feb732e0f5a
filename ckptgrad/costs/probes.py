# pyright: reportUnknownMemberType=false
"""Probes: the forward and backward of one kind of stage compiled alone, for the bytes that they take.

In a whole program each is an isolated call (`execution.isolated`), so what it holds there is what it holds alone. Its
operands and its results are made and read inside the program (`probe_values`), so that all of them count as temporaries,
live as long as in a whole program, and are overwritten where the compiler would overwrite them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax

from ckptgrad.chain.kind import PerKind, StageKind, private_residuals
from ckptgrad.costs.probe_values import SCOPE, consume, fillings, is_plain, produce
from ckptgrad.execution.lying import lying
from ckptgrad.execution.stage_functions import stage_functions
from ckptgrad.graph.atoms import is_in_host
from ckptgrad.graph.graph import Atom, Variable
from ckptgrad.stage.partition import Run
from ckptgrad.target.hlo.tables import count_tables
from ckptgrad.target.hlo.text import read_module
from ckptgrad.target.laid_out import laid_out_cotangent, laid_out_struct
from ckptgrad.target.platform import Isolation
from ckptgrad.target.remember import remembered_together
from ckptgrad.target.target import Target

ProbedRun: TypeAlias = Literal["forward", "hidden", "backward"]


@dataclass(frozen=True)
class Place:
    """What surrounds a stage in its chain.

    Attributes:
        stays: whether the stage before may read the incoming boundary after this stage's backward.
        summed: the positions among the stage's gradients of those that are added to others.
        starting: the positions of those that are held, waiting for others.
    """

    stays: bool
    summed: tuple[int, ...]
    starting: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """One program of a kind of stage.

    Attributes:
        kind: of stage.
        run: a forward, a hidden one, which does not produce the outgoing boundary, or a backward.
        option: the number of the save option; None for a forward that keeps nothing.
        place: of a backward; else None.
    """

    kind: StageKind
    run: ProbedRun
    option: int | None
    place: Place | None = None

    @property
    def program(self) -> Run:
        """What the program runs."""
        functions = stage_functions(self.kind)
        if self.option is not None and self.place is not None:
            return functions.backward(self.option, self.place.summed)[0]
        return functions.forward(self.option, output=self.run == "forward")[0]

    @property
    def figures(self) -> Figures:
        """What the compiler said of the program, which must have been asked for."""
        return _known(self.kind)[self]


@dataclass(frozen=True)
class Figures:
    """What a compiler says of one program.

    Attributes:
        bytes: of its temporaries.
        seconds: that it takes, as they are read from its instructions; None where the platform does not say how.
        table_bytes: of its index tables, which it holds beside these through the whole of a program that it is part of.
    """

    bytes: int
    seconds: float | None
    table_bytes: int = 0


def _nothing_known(kind: StageKind) -> dict[Probe, Figures]:
    return {}


# Figures of the programs of a kind.
_known = PerKind(_nothing_known)


def compile_probes(probes: Collection[Probe]) -> None:
    """Compile those that nothing is known of yet, a few at a time; of programs that differ in single numbers one."""
    jobs = {p: _lowered(p) for p in dict.fromkeys(probes) if p not in _known(p.kind)}
    texts = {p: lowered.as_text() for p, lowered in jobs.items()}
    alike = {p: (p.kind.target, without_numbers(text)) for p, text in texts.items()}
    # The first in the order of texts: which one does not depend on the order of the probes.
    distinct = {alike[p]: p for p in sorted(jobs, key=texts.__getitem__, reverse=True)}
    if not distinct:
        return

    def ask(p: Probe) -> Figures:
        return _figures(p.kind, texts[p], jobs[p])

    with ThreadPoolExecutor() as pool:
        figures = dict(zip(distinct, pool.map(ask, distinct.values()), strict=True))
    for p, program in alike.items():
        _known(p.kind)[p] = figures[program]


# A single number in the text of a program, and what tells of which type numbers decide how often a loop turns.
_NUMBER = re.compile(r"dense<[^<>]*> : tensor<([a-z]\w*)>")
_DECIDING = re.compile(r"stablehlo\.(?:compare|convert) .*: \(tensor<([a-z]\w*)>[,)]")


def without_numbers(text: str) -> str:
    """The text of a lowered program without its single numbers, as the number of a layer that a random key is folded with.

    A loop may turn as often as one of them says: of a program with loops those stay whose type some number has that is
    compared, or converted to another type.
    """
    deciding = {*_DECIDING.findall(text)} if "stablehlo.while" in text else ()
    return _NUMBER.sub(lambda found: found[0] if found[1] in deciding else f"a number of {found[1]}", text)


def _figures(kind: StageKind, text: str, lowered: jax.stages.Lowered) -> Figures:
    target = kind.target
    size = target.platform.table_bytes if kind.is_spread else 0
    quantities = ["bytes of temporaries beside tables", f"tables of {size} bytes"] if size else ["bytes of temporaries"]
    if target.platform.compiled_seconds is not None:
        quantities.append(f"seconds by {target.priced_by}")

    def ask() -> list[float]:
        compiled: Any = target.compile_probe(lowered)
        seconds = target.compiled_seconds(compiled, without=SCOPE)
        taken = target.allocated(compiled).temporary_bytes
        read = [] if seconds is None else [seconds]
        if not size:
            return [taken, *read]
        tables = size * count_tables(read_module(compiled.as_text()))
        # A program of which nothing else is in the device's memory has no tables there either.
        return [max(0, taken - tables), tables, *read]

    taken, *others = remembered_together(target, quantities, text, ask)
    tables = int(others.pop(0)) if size else 0
    return Figures(int(taken), others[0] if others else None, tables)


def region_option(kind: StageKind) -> int | None:
    """The option whose backward does what a repetition does together with the backward right after it.

    Where both are one region (`execution.isolated`), it does not matter what the repetition keeps: the compiler sees a
    backward that starts from what the stage reads. None where they are not, and where options differ in more than what they
    keep.
    """
    if kind.target.platform.isolation is not Isolation.BARRIERS or kind.has_loops:
        return None
    return next((k for k, option in enumerate(kind.options) if not option.partition.residuals), None)


def repetition(kind: StageKind, option: int, place: Place) -> Probe:
    """The program that tells what a forward takes that does not produce the outgoing boundary, as its backward is next."""
    together = region_option(kind)
    return Probe(kind, "hidden", option) if together is None else Probe(kind, "backward", together, place)


def given_bytes(kind: StageKind, option: int, place: Place) -> int:
    """Bytes of the operands of an option's backward that a plan counts as held."""
    totals = [a for p in place.summed if (a := kind.joint.gradients[p]) is not None]
    return kind.target.total_bytes([*_held_outside(kind, option, place), *kind.joint.cotangents, *totals])


def _arriving(kind: StageKind) -> list[Variable]:
    return [kind.joint.inputs[i] for i in kind.boundary_in]


def _held_outside(kind: StageKind, number: int, place: Place) -> list[Variable]:
    """The residuals and boundaries that the backward of option `number` reads last.

    The incoming boundary is read by the backward of the stage before too, if that reads its output; otherwise nothing needs
    it after this backward.
    """
    option = kind.options[number]
    own = {*private_residuals(kind, option), *kind.outputs_kept}
    own |= set() if place.stays else {*_arriving(kind)}
    return [v for v in (*option.partition.residuals, *option.partition.reads) if v in own and not is_in_host(v.aval)]


def _lowered(probe: Probe) -> jax.stages.Lowered:
    if probe.option is not None and probe.place is not None:
        return _lower_backward(probe.kind, probe.option, probe.place)
    return _lower_forward(probe.kind, probe.option, output=probe.run == "forward")


def _lower_forward(kind: StageKind, option: int | None, output: bool) -> jax.stages.Lowered:
    part = kind.plain if option is None else kind.options[option].partition
    run, call = stage_functions(kind).forward(option, output=output)
    own = {*_arriving(kind)}
    used = {*kind.outputs_kept, *(v for v in part.residuals if not is_in_host(v.aval))}

    def program(values: Sequence[Any]) -> Any:
        made = dict(zip(run.makes, call(values), strict=True))
        arriving = [(v, x) for v, x in zip(run.reads, values, strict=True) if v in own]
        # The incoming boundary is held besides what is made of it.
        consumed = [*arriving, *((v, x) for v, x in made.items() if v in used)]
        return _consume(kind, consumed), [x for v, x in made.items() if v not in used]

    return _lower(kind.target, program, run.reads, [laid_out_struct(v) for v in run.reads], [v in own for v in run.reads])


def _lower_backward(kind: StageKind, option: int, place: Place) -> jax.stages.Lowered:
    run, call = stage_functions(kind).backward(option, place.summed)
    gradients, cotangents = kind.joint.gradients, {*kind.joint.cotangents}
    own = {*_held_outside(kind, option, place), *cotangents}
    summed = [a for p in place.summed if (a := gradients[p]) is not None]
    used = {*kind.crossing, *(gradients[p] for p in place.starting)}
    count = len(run.reads)

    def program(values: Sequence[Any]) -> Any:
        made = call((values[:count], values[count:]))
        others = len(made) - len(summed)
        pairs = list(zip(run.makes, made[:others], strict=False))
        held = [*((v, x) for v, x in pairs if v in used), *zip(summed, made[others:], strict=True)]
        # Gradients of arguments are results of the whole program.
        results = {v: x for v, x in pairs if v not in used}
        return _consume(kind, held), lying([*results], [*results.values()])

    structs = [laid_out_cotangent(v) if v in cotangents else laid_out_struct(v) for v in run.reads]
    structs += [laid_out_cotangent(a) for a in summed]
    read = [*run.reads, *summed]
    return _lower(kind.target, program, read, structs, [v in own for v in run.reads] + [True] * len(summed))


def _where(atom: Atom, argument: Any) -> Any:
    """An argument in the memory of what it stands for."""
    if not is_in_host(atom.aval):
        return argument
    with jax.named_scope(SCOPE):
        return jax.device_put(argument, jax.memory.Space.Host)


def _consume(kind: StageKind, pairs: Sequence[tuple[Atom, Any]]) -> Any:
    return consume([x for _, x in pairs], [v.sharding for v, _ in pairs], kind.target.platform.isolation)


def _lower(
    target: Target, program: Any, read: Sequence[Atom], structs: Sequence[Any], made: Sequence[bool]
) -> jax.stages.Lowered:
    """A program of values that are arguments, or made inside; arguments come from the host's memory where they are there."""
    isolation = target.platform.isolation
    inside = [i for i, m in enumerate(made) if m and is_plain(structs[i])]
    places = set(inside)
    made_types = [structs[i] for i in inside]

    def run(numbers: Sequence[Any], arguments: Sequence[Any]) -> Any:
        rest, values = iter(arguments), iter(produce(made_types, numbers, isolation))
        return program([next(values) if i in places else _where(a, next(rest)) for i, a in enumerate(read)])

    arguments = [s for i, s in enumerate(structs) if i not in places]
    return target.lower(jax.jit(run), fillings(made_types, isolation), arguments)
