"""A differentiated function as a chain of stages.

`build_program` cuts a graph, names what crosses each cut, finds equal stages and differentiates
each distinct one once.  A value that only the next stage reads belongs to the boundary between the
two; one that lives longer is held from where it is made until its maker's backward, and counted
once.  Arguments and captured constants are the caller's and cost nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax.numpy as jnp

from ckptgrad.autodiff.reach import reaching
from ckptgrad.autodiff.reverse import active_variables
from ckptgrad.autodiff.rule import generation
from ckptgrad.axes.followed import Place, followed
from ckptgrad.chain.cut import find_cuts
from ckptgrad.chain.kind import StageKind
from ckptgrad.chain.layers import layer_of, named_values
from ckptgrad.chain.recent import Recent
from ckptgrad.chain.totals import always_in_place
from ckptgrad.compat import spmd_axis_names
from ckptgrad.graph.fingerprint import each_rule_once, segment_key
from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.graph.source import SourceLine
from ckptgrad.graph.uncollected import uncollected
from ckptgrad.once import once
from ckptgrad.stage.save_options import Saveable
from ckptgrad.target.partitioner import mesh_of
from ckptgrad.target.target import Target
from ckptgrad.target.tiled import pad_to_tiles

# What a function reads beside its arguments, as reports name it.
CAPTURED = "captured arrays"


@dataclass(frozen=True)
class Stage:
    """One stage: its kind, and the graph's variables in the kind's order.

    Attributes:
        operations: the graph's, with their own lines and scopes; those of the kind are of the first such stage.
    """

    kind: StageKind
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    operations: tuple[Operation, ...] = ()

    @once
    def source(self) -> SourceLine | None:
        """The user's line of the first operation that reads the boundary before it."""
        arriving = set(self.boundary_in)
        first = (op for op in self.operations if not arriving.isdisjoint(op.inputs))
        return next((s for s in (op.source for op in (*first, *self.operations)) if s is not None), None)

    @property
    def boundary_in(self) -> tuple[Variable, ...]:
        return tuple(self.inputs[i] for i in self.kind.boundary_in)

    @property
    def boundary_out(self) -> tuple[Variable, ...]:
        return tuple(self.outputs[i] for i in self.kind.boundary_out)

    @property
    def seeded(self) -> tuple[Variable, ...]:
        """The outputs that receive a cotangent."""
        return tuple(self.outputs[i] for i in self.kind.seeds)

    @property
    def differentiated(self) -> tuple[Variable, ...]:
        """The inputs that get a gradient."""
        return tuple(self.inputs[i] for i in self.kind.wrt)

    @property
    def gradients(self) -> dict[Variable, Atom]:
        """The gradients of inputs, as the kind names them, without those that are zero."""
        pairs = zip(self.differentiated, self.kind.joint.gradients, strict=True)
        return {v: g for v, g in pairs if g is not None}


@dataclass(frozen=True)
class Program:
    """A graph as a chain of stages, ready to be planned and run.

    Attributes:
        graph: the whole forward graph.
        wrt: the inputs to differentiate with respect to (none of them integer).
        seeds: the outputs that receive a cotangent.
        held: values that live across several stages, and how many stages read each.
        target: what it is compiled for.
        chunked: whether its stages may run over chunks of an axis.
        untraced_bytes: what the function returns besides the graph's outputs.
        arguments: the user's names of the graph's inputs, if they are known: "params['w']".
        owners: and those of the arguments that they are leaves of: "params".
        consumed: whether each gradient is used, and gone, as soon as it is complete.
        staged: whether each forward and backward of a stage is compiled as a program of its own.
    """

    graph: Graph
    wrt: tuple[Variable, ...]
    seeds: tuple[Variable, ...]
    stages: tuple[Stage, ...]
    held: dict[Variable, int]
    target: Target
    chunked: bool = False
    untraced_bytes: int = 0
    arguments: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    consumed: bool = False
    staged: bool = False

    @once
    def places(self) -> list[SourceLine | None]:
        """Where each stage comes from: the user's line, within the layer as users call it (`chain.layers`)."""
        names = dict(zip(self.graph.inputs, self.arguments, strict=False))
        named = named_values(self.graph.operations, {v: names[v] for v in self.wrt if v in names})
        layers = [layer_of(stage.operations, named) for stage in self.stages]
        return [s.source and replace(s.source, scope=layer) for s, layer in zip(self.stages, layers, strict=True)]

    @once
    def makers(self) -> dict[Variable, int]:
        """The stage that makes each value that leaves its stage."""
        return {v: i for i, stage in enumerate(self.stages) for v in stage.outputs}

    @property
    def kinds(self) -> list[StageKind]:
        """The distinct stages, in order of first appearance."""
        return list(dict.fromkeys(s.kind for s in self.stages))

    @property
    def devices(self) -> int:
        """The number of devices over which its values lie; all bytes are those of one of them."""
        mesh = mesh_of(v.sharding for v in self.graph.variables)
        return 1 if mesh is None else mesh.size

    @once
    def argument_bytes(self) -> dict[str, int]:
        """For each argument its bytes, in order; then those of the arrays that the function captures, if there are any.

        The caller holds them: they are part of no plan.
        """
        found: dict[str, int] = {}
        owners = itertools.chain(self.owners, itertools.repeat(CAPTURED))
        for v, owner in [*zip(self.graph.inputs, owners, strict=False), *((c, CAPTURED) for c in self.graph.constants)]:
            found[owner] = found.get(owner, 0) + self.target.bytes_of(v)
        return {name: size for name, size in found.items() if size}

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients; if they are consumed, of those that are there at once."""
        if not self.consumed:
            return self.target.total_bytes(map(self.gradient_of, self.wrt))
        there, most, wrt = set[Variable](), 0, {*self.wrt}
        for stage, complete in zip(reversed(self.stages), reversed(self.completed), strict=True):
            there |= wrt.intersection(stage.gradients)
            most = max(most, self.target.total_bytes(map(self.gradient_of, there)))
            there -= {*complete}
        return most

    @once
    def completed(self) -> list[tuple[Variable, ...]]:
        """For each stage those of `wrt` of which nothing flows back from the stages before it: their gradients are complete
        after its backward."""
        first: dict[Variable, int] = {}
        for i, stage in reversed([*enumerate(self.stages)]):
            first.update(dict.fromkeys(stage.gradients, i))
        return [tuple(v for v in self.wrt if first.get(v) == i) for i in range(len(self.stages))]

    def gradient_of(self, v: Variable) -> Atom:
        """A value that lies as the gradient of `v` does, once it is complete; where nothing flows back, `v`."""
        return self._gradients.get(v, v)

    @once
    def _gradients(self) -> dict[Variable, Atom]:
        gradients: dict[Variable, Atom] = {}
        for stage in reversed(self.stages):
            gradients.update(stage.gradients)
        return gradients

    @once
    def _sums(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """For each stage which of its gradients are added to others, and to which others are added."""
        table, added = set(self.seeds), set[Variable]()
        pairs_by_stage: list[tuple[tuple[int, ...], list[tuple[int, Variable]]]] = []
        for stage in reversed(self.stages):
            table -= {*stage.seeded}
            pairs = list(zip(stage.differentiated, stage.kind.joint.gradients, strict=True))
            present = [(k, v) for k, (v, g) in enumerate(pairs) if g is not None]
            summed = tuple(k for k, v in present if v in table)
            pairs_by_stage.append((summed, present))
            added |= {v for k, v in present if k in summed}
            table |= {v for _, v in present}
        crossing = {v for stage in self.stages for v in stage.boundary_in}
        lasting = added | {v for v in self.held if v not in crossing}
        return [
            (summed, tuple(k for k, v in present if v in lasting and k not in summed))
            for summed, present in pairs_by_stage[::-1]
        ]

    @once
    def summed(self) -> list[tuple[int, ...]]:
        """For each stage the positions among its gradients of those that are added to others made before.

        Gradients of arguments and of held values that a later stage reads too.
        """
        return [summed for summed, _ in self._sums]

    @once
    def starting(self) -> list[tuple[int, ...]]:
        """For each stage the positions of gradients of held values that come first, or to which others are added.

        Without those that lie in results from then on (`in_results`).
        """
        starting = [ks for _, ks in self._sums]
        there = self.in_results
        pairs = zip(self.stages, starting, strict=True)
        return [tuple(k for k in ks if stage.differentiated[k] not in there) for stage, ks in pairs]

    @once
    def in_results(self) -> frozenset[Variable]:
        """Arguments whose gradients lie in results of the program from their first term on: all further terms are added in
        place, whatever option their stage has."""
        if self.consumed:
            return frozenset()
        summed, elsewhere = set[Variable](), {*self.makers}
        for stage, ks in zip(self.stages, self.summed, strict=True):
            there = always_in_place(stage.kind, ks)
            summed |= {stage.differentiated[k] for k in ks}
            elsewhere |= {stage.differentiated[k] for k in ks if k not in there}
        return frozenset(summed.intersection(self.wrt) - elsewhere)

    @once
    def output_bytes(self) -> int:
        """Bytes of the function's outputs.

        Each output is a buffer of its own, even if it is another output too, or an argument or constant passed through.
        """
        return self.target.total_bytes(self.graph.outputs) + self.untraced_bytes


@uncollected()
def build_program(
    graph: Graph,
    wrt: Sequence[Variable],
    seeds: Sequence[Atom],
    target: Target,
    cuts: Sequence[int] | None = None,
    saveable: Saveable | None = None,
    encodings: tuple[str, ...] = (),
    chunked: bool = False,
    whole: Collection[Place] = (),
) -> Program:
    """Cut a graph into stages and recognise equal ones.

    Args:
        graph: the forward graph.
        wrt: the inputs to differentiate with respect to.
        seeds: the outputs that will receive a cotangent.
        target: what it is compiled for.
        cuts: positions in `graph.operations`; None finds them.
        saveable: which operations' results may be kept, as in `jax.checkpoint_policies`.
        encodings: the names of those in which values may be kept.
        chunked: whether stages may run over chunks of an axis.
        whole: axes of the graph's inputs along which they may not.
    """
    # From a seed that is no value of the graph nothing flows back: all gradients would be zero.
    assert {*variables_of(seeds)} <= {*graph.variables}
    pad_to_tiles(graph.operations, target.platform, graph.inputs)
    cuts = find_cuts(graph, target) if cuts is None else cuts
    return _Builder(graph, wrt, variables_of(seeds), target, cuts, saveable, encodings, chunked, whole).build()


# Kinds of recent programs: a function that is traced again is not differentiated again.
_RECENT = Recent()


def forget_kinds() -> None:
    """What is traced next is differentiated anew: for figures of a first time, and for rates that were replaced."""
    _RECENT.forget()


def _recall(key: tuple[Any, ...]) -> StageKind | None:
    """A recent kind of this structure that any trace may use."""
    kind = _RECENT.get(key)
    return kind if kind is not None and kind.is_reusable else None


class _Builder:
    def __init__(
        self,
        graph: Graph,
        wrt: Sequence[Variable],
        seeds: list[Variable],
        target: Target,
        cuts: Sequence[int],
        saveable: Saveable | None,
        encodings: tuple[str, ...],
        chunked: bool,
        whole: Collection[Place],
    ) -> None:
        self.target, self.saveable, self.encodings, self.chunked = target, saveable, encodings, chunked
        self.graph, self.wrt, self.seeds = graph, tuple(wrt), tuple(dict.fromkeys(seeds))
        self.whole = {*followed(graph.operations, dict.fromkeys(whole), merged=True)} if whole else set[Place]()
        edges = [0, *cuts, len(graph.operations)]
        self.segments = [graph.operations[a:b] for a, b in itertools.pairwise(edges)]
        active = active_variables(graph, wrt)
        self.useful = active & reaching(graph, self.seeds)
        self.maker = {v: i for i, seg in enumerate(self.segments) for op in seg for v in op.outputs}
        self.returned = set(variables_of(graph.outputs))
        # For each value that stages other than its maker read, these; of what is made nowhere nobody asks.
        self.outside: dict[Variable, set[int]] = {}
        for i, segment in enumerate(self.segments):
            for op in segment:
                for v in variables_of(op.inputs):
                    if self.maker.get(v, i) != i:
                        self.outside.setdefault(v, set()).add(i)
        self.kinds: dict[tuple[Any, ...], StageKind] = {}
        self._coded: dict[StageKind, bool] = {}
        # Values that get a cotangent, known once the stages after them are made. Others get none, rather than one of zeros:
        # that times an infinite derivative is nan.
        self.received = set(self.seeds)
        # Equal stages share a kind only under the same jax_enable_x64, rules, predicate, target and mesh axes of a vmap.
        self.environment = (
            str(jnp.result_type(float)), generation(), saveable, target, chunked, spmd_axis_names()
        )  # fmt: skip

    def build(self) -> Program:
        with each_rule_once():
            stages = tuple(self.stage(i) for i in reversed(range(len(self.segments))))[::-1]
        held = {v: len(self.outside[v]) for v in self.maker if self.is_held(v)}
        return Program(self.graph, self.wrt, self.seeds, stages, held, self.target, self.chunked)

    def is_boundary(self, v: Variable) -> bool:
        readers = self.outside.get(v)
        return readers is not None and readers == {self.maker[v] + 1} and v not in self.returned

    def is_held(self, v: Variable) -> bool:
        return v in self.outside and not self.is_boundary(v) and v not in self.returned

    def stage(self, i: int) -> Stage:
        operations = self.segments[i]
        inside = {v for op in operations for v in op.outputs}
        inputs = list(dict.fromkeys(v for op in operations for v in variables_of(op.inputs) if v not in inside))
        outputs = [v for op in operations for v in op.outputs if v in self.returned or v in self.outside]
        boundary_in = [k for k, v in enumerate(inputs) if self.is_boundary(v)]
        boundary_out = [k for k, v in enumerate(outputs) if self.is_boundary(v)]
        seeds = [k for k, v in enumerate(outputs) if v in self.useful and v in self.received]
        wrt = [k for k, v in enumerate(inputs) if v in self.useful] if seeds else []
        last = self.chunked and i == len(self.segments) - 1
        # A token has no axes.
        axes = [range(len(getattr(v.aval, "shape", ()))) for v in inputs]
        whole = tuple((k, axis) for k, v in enumerate(inputs) for axis in axes[k] if (v, axis) in self.whole)
        roles = (tuple(boundary_in), tuple(boundary_out), tuple(wrt), tuple(seeds), last, whole)
        laid_out = tuple((v.sharding, v.loose) for v in (*inputs, *(v for op in operations for v in op.outputs)))
        key = (segment_key(operations, inputs, outputs), laid_out, roles, self.environment)

        def make() -> StageKind:
            choice = self.target, self.saveable, (), self.chunked, last, whole
            return StageKind(Graph(inputs, outputs, operations), wrt, seeds, boundary_in, boundary_out, *choice)

        kind = self.kind((*key, ()), operations, make)
        if seeds and self.encodings and self.may_keep_codes(kind):
            kind = self.kind((*key, self.encodings), operations, partial(kind.with_encodings, self.encodings))
        if seeds:
            self.received.update(inputs[k] for k, g in zip(wrt, kind.joint.gradients, strict=True) if g is not None)
        return Stage(kind, tuple(inputs), tuple(outputs), tuple(operations))

    def may_keep_codes(self, kind: StageKind) -> bool:
        """Whether a kind has values for the encodings; told once for all its stages."""
        if kind not in self._coded:
            self._coded[kind] = kind.may_keep_codes(self.encodings)
        return self._coded[kind]

    def kind(self, key: tuple[Any, ...], operations: Sequence[Operation], make: Callable[[], StageKind]) -> StageKind:
        """The kind of a key: that of another stage, or of a program before, or a new one."""
        kind = self.kinds.get(key) or _recall(key)
        if kind is None:
            kind = make()
            _RECENT.put(key, kind, (op.params for op in operations))
        self.kinds[key] = kind
        return kind
