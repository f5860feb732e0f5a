"""`StageKind`: what equal stages of a chain share, their graph, joint graph and save options."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jax.core import Tracer
from jax.sharding import Mesh

from ckptgrad.chunks.candidates import chunked_choices
from ckptgrad.graph.alone import stands_alone
from ckptgrad.graph.atoms import is_in_host
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.graph.traits import is_materialised, is_transcendental
from ckptgrad.loops.candidates import planned_choices
from ckptgrad.loops.layout import lay_out_joint
from ckptgrad.loops.planned import open_loops
from ckptgrad.once import once
from ckptgrad.rules.forms import gradients_in
from ckptgrad.stage.encodings.coded import coded_choices
from ckptgrad.stage.encodings.encoding import get_encoding
from ckptgrad.stage.joint import Joint, joint
from ckptgrad.stage.partition import Partition, partition
from ckptgrad.stage.reshaped import read_from_boundaries
from ckptgrad.stage.save_options import Saveable
from ckptgrad.target.partitioner import mesh_of
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import Target
from ckptgrad.target.tiled import pad_to_tiles

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One choice of residuals for a stage kind; `encodings` are the names of those in which some of them are kept."""

    name: str
    partition: Partition
    encodings: tuple[str, ...] = ()


class StageKind:
    """What equal stages of programs for one target share: the joint graph and the save options.

    Attributes:
        graph: the forward graph of the first such stage, on variables of its own.
        wrt, seeds: the positions of inputs to differentiate with respect to, and of outputs that receive a cotangent.
        boundary_in, boundary_out: the positions of inputs and outputs that belong to a boundary.
        target: what it is compiled for.
        saveable: which operations' results may be kept, as in `jax.checkpoint_policies`.
        encodings: the names of those in which values may be kept.
        chunked: whether it may also run over chunks of an axis.
        last: whether nothing reads its outputs before its backward.
        whole: positions and axes of inputs along which it may not run over chunks.
    """

    def __init__(
        self,
        graph: Graph,
        wrt: Sequence[int],
        seeds: Sequence[int],
        boundary_in: Sequence[int],
        boundary_out: Sequence[int],
        target: Target,
        saveable: Saveable | None = None,
        encodings: tuple[str, ...] = (),
        chunked: bool = False,
        last: bool = False,
        whole: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.graph, self.target, self.saveable, self.encodings = graph, target, saveable, encodings
        self.chunked, self.last, self.whole = chunked, last, tuple(whole)
        self.wrt, self.seeds = tuple(wrt), tuple(seeds)
        self.boundary_in, self.boundary_out = tuple(boundary_in), tuple(boundary_out)
        self.kept: dict[PerKind[Any], Any] = {}

    @once
    def joint(self) -> Joint:
        """The joint forward and backward graph, differentiated when first asked for; loops are left open."""
        graph = self.graph
        wrt, seeds = [graph.inputs[i] for i in self.wrt], [graph.outputs[i] for i in self.seeds]
        with self._writing():
            differentiated = joint(graph, wrt, seeds, planned=True)
        if self.target.platform.reshapes_in_place:
            boundary = variables_of(differentiated.outputs[i] for i in self.boundary_out)
            differentiated = read_from_boundaries(differentiated, boundary)
        edges = self._edges(differentiated)
        lay_out_joint(differentiated, {v: own.sharding for v, own in edges.items() if not own.loose})
        for v, own in edges.items():
            v.loose = v.loose or own.loose
        pad_to_tiles(differentiated.operations, self.target.platform)
        return differentiated

    @once
    def is_spread(self) -> bool:
        """Whether its values lie over several devices."""
        mesh = mesh_of(v.sharding for v in (*self.joint.inputs, *variables_of(self.joint.outputs)))
        return mesh is not None and mesh.size > 1

    def _writing(self) -> AbstractContextManager[None]:
        """Gradients of products in the form that is for the target: also inside loops, which are differentiated later."""
        return gradients_in(self.target.forms)

    def _edges(self, joint: Joint) -> dict[Variable, Atom]:
        """What passes the edges of the stage, with the values of its graph that lie likewise: a cotangent as its value."""
        pairs = [*zip(joint.inputs, self.graph.inputs, strict=True), *zip(joint.outputs, self.graph.outputs, strict=True)]
        pairs += zip(joint.cotangents, (self.graph.outputs[i] for i in self.seeds), strict=True)
        return {v: own for v, own in pairs if isinstance(v, Variable)}

    @property
    def is_reusable(self) -> bool:
        """Whether another trace may use it: its rules captured no tracer of the trace that made it."""
        known = self.__dict__.get("joint")
        return known is not None and not any(isinstance(c, Tracer) for c in known.constants.values())

    @property
    def has_loops(self) -> bool:
        """Whether there are loops inside that a plan says how to reverse."""
        return bool(open_loops(self.joint))

    @once
    def stands_alone(self) -> bool:
        """Whether a compiler can be asked about it: it needs no other devices, or it is known how it lies on these."""
        return self.is_laid_out or stands_alone((*self.graph.operations, *self.joint.operations))

    @once
    def is_laid_out(self) -> bool:
        """Whether it runs on several devices, and it is known on which, and how its values lie there."""
        return isinstance(mesh_of(v.sharding for v in (*self.joint.inputs, *self.joint.cotangents)), Mesh)

    def may_keep_codes(self, encodings: Sequence[str]) -> bool:
        """Whether there are values for one of these encodings, in a stage that keeps codes at all."""
        if self.has_loops or self.is_laid_out:
            return False
        made = (v.aval for op in self.joint.operations for v in op.outputs)
        avals = [a for a in (*made, *(v.aval for v in self.joint.inputs)) if hasattr(a, "dtype")]
        return any(get_encoding(name).takes(aval) for name in encodings for aval in avals)

    def with_encodings(self, encodings: tuple[str, ...]) -> StageKind:
        """The same kind, whose values may be kept in these; what was differentiated is shared."""
        roles = self.wrt, self.seeds, self.boundary_in, self.boundary_out
        choice = self.target, self.saveable, encodings, self.chunked, self.last, self.whole
        kind = StageKind(self.graph, *roles, *choice)
        vars(kind)["joint"] = self.joint
        return kind

    @property
    def is_probed_whole(self) -> bool:
        """Whether a compiler may be asked about all its options: with loops inside these are too many."""
        return not self.has_loops and self.stands_alone

    @once
    def options(self) -> list[Option]:
        """The save options, from most kept to least, for each way to reverse the loops inside; then those over chunks, and
        those that keep codes: with or without these an option has the same number, by which plans are saved."""
        return [*self._whole, *self._over_chunks, *self._as_codes]

    @once
    def _whole(self) -> list[Option]:
        boundary = [self.joint.inputs[i] for i in self.boundary_in]
        with self._writing():
            choices = planned_choices(self.joint, boundary, Roofline(self.target), self.saveable)
        return [Option(name, part) for name, part in choices]

    @property
    def over_chunks(self) -> range:
        """The numbers of the options that run over chunks."""
        first = len(self._whole)
        return range(first, first + len(self._over_chunks))

    @property
    def may_be_chunked(self) -> bool:
        """Whether options over chunks are made for it, if they are asked for and an axis proves."""
        return not self.has_loops and self.stands_alone and not self.is_laid_out

    @once
    def _as_codes(self) -> list[Option]:
        """Options that keep values in the forms that were asked for; none for what lies on several devices."""
        if not self.encodings or self.has_loops or self.is_laid_out:
            return []
        boundary = [self.joint.inputs[i] for i in self.boundary_in]
        plain = [(option.name, option.partition) for option in self._whole]
        choices = coded_choices(plain, boundary, self.encodings, Roofline(self.target))
        return [Option(choice.name, choice.part, choice.encodings) for choice in choices]

    @once
    def _over_chunks(self) -> list[Option]:
        """Options that run over chunks, from few of these to many; none for what lies on several devices."""
        if not self.chunked or not self.may_be_chunked:
            return []
        graph = self.graph
        wrt, seeds = [graph.inputs[i] for i in self.wrt], [graph.outputs[i] for i in self.seeds]
        whole = partition(self.joint, ())
        axes = [(graph.inputs[k], axis) for k, axis in self.whole]
        arriving = [graph.inputs[i] for i in self.boundary_in]
        given = self.last, axes, arriving
        with self._writing():
            choices = chunked_choices(graph, wrt, variables_of(seeds), whole, Roofline(self.target), *given)
        for _, part in choices:
            pad_to_tiles(part.joint.operations, self.target.platform)
        return [Option(name, part) for name, part in choices]

    @once
    def plain(self) -> Partition:
        """The partition that keeps nothing: its forward makes the outputs alone, over the most chunks that are offered."""
        joints = (option.partition.joint for option in reversed([*self._whole, *self._over_chunks]))
        return partition(next(joint for joint in joints if not joint.late), ())

    @once
    def crossing(self) -> list[Variable]:
        """Gradients that flow to the stage before."""
        pairs = zip(self.wrt, self.joint.gradients, strict=True)
        return variables_of(g for i, g in pairs if i in self.boundary_in and g is not None)

    @once
    def outputs_kept(self) -> list[Variable]:
        """Output variables of the joint graph that form the outgoing boundary."""
        return variables_of(self.joint.outputs[i] for i in self.boundary_out)


class PerKind(Generic[T]):
    """What one owner keeps for each kind of stage: made when first asked for, gone with the kind.

    It is stored on the kind, because what is kept may refer to the kind itself.
    """

    def __init__(self, make: Callable[[StageKind], T]) -> None:
        self._make = make

    def __call__(self, kind: StageKind) -> T:
        kept = kind.kept.get(self)
        # Without a lock: what is made may trace users' code. Of two threads, both get what the first one stores.
        return kind.kept.setdefault(self, self._make(kind)) if kept is None else kept


def private_residuals(kind: StageKind, option: Option) -> list[Variable]:
    """What an option keeps besides the boundaries of its stage."""
    shared = {*kind.outputs_kept, *(kind.joint.inputs[i] for i in kind.boundary_in)}
    return [v for v in option.partition.residuals if v not in shared]


def stored_in_host(option: Option) -> int:
    """Bytes that an option keeps in the host's memory."""
    there = (v.aval for v in option.partition.residuals if is_in_host(v.aval))
    return sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in there)


def stands_open(kind: StageKind, option: Option) -> bool:
    """Whether the backward from stored residuals of an option is left to the compiler, with no barrier before it."""
    platform = kind.target.platform

    def is_costly(op: Operation) -> bool:
        """Whether it takes more to do an operation again than to read its result."""
        return is_materialised(op) or (is_transcendental(op) and not platform.repeats_transcendentals)

    return platform.open_if_stored and not any(is_costly(op) for op in option.partition.recomputed)
