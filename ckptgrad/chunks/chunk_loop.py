# pyright: reportUnknownMemberType=false
"""`ChunkLoop`: operations of a stage run over chunks of an axis, forward and backward.

Each chunk is sliced from where the operands are, results for it are written where they belong, and totals are summed in
what the loop carries.  The backward of a chunk runs it forward again, so that nothing inside it outlives it: gradients of
operands that are cut are written in place, those of operands that all chunks read whole are summed.  Where the cotangents
are known before the results, one loop makes both.  A last chunk with fewer entries follows after the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from ckptgrad.axes.chunked import Chunkable
from ckptgrad.axes.cut import Split
from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.graph.value_types import behind_one_barrier
from ckptgrad.once import once
from ckptgrad.rules.decorators import cast
from ckptgrad.rules.subgraphs import calls_custom_rule, joint_of, typed
from ckptgrad.stage.joint import Joint
from ckptgrad.stage.partition import Partition, all_again

# From the number of a chunk, what is carried and the number of entries to what is carried on.
_Step = Callable[[Any, list[Any], int], list[Any]]
_NONE: Mapping[int, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class ChunkLoop:
    """Operations that treat the entries of an axis independently, over chunks of these.

    Attributes:
        found: the operations, what of their operands is cut, and what becomes of their results.
        entries: of each chunk but the last, which may have fewer.
        needs: for each operand whether it gets a gradient.
        seeded: for each result whether it gets a cotangent.
        accumulate: the dtype in which totals and gradients of operands that are read whole are summed, if it is wider than
            theirs. Those of 16 bits and fewer are always summed in float32: a product of all entries sums in that too.
        joints: the joint graphs of chunks that are known, by their entries; loops that differ in these alone may share it.
    """

    found: Chunkable
    entries: int
    needs: tuple[bool, ...]
    seeded: tuple[bool, ...]
    accumulate: DTypeLike | None = None
    joints: dict[int, Joint] = field(default_factory=dict[int, Joint], repr=False)

    @property
    def operands(self) -> tuple[Variable, ...]:
        """The operands as variables of the stage's graph."""
        return self.found.inputs

    @property
    def results(self) -> tuple[Variable, ...]:
        """The results as variables of the stage's graph."""
        return tuple(self.found.outputs)

    @once
    def axes(self) -> list[int | None]:
        """For each operand the axis along which it is cut; None where it is read whole."""
        return [self.found.sliced.get(v) for v in self.operands]

    @once
    def result_axes(self) -> list[int | None]:
        """For each result the axis along which it is cut; None for totals."""
        return [kind.axis if isinstance(kind, Split) else None for kind in self.found.outputs.values()]

    @once
    def cotangent_axes(self) -> list[int | None]:
        """For each cotangent the axis along which it is cut; None for those of totals."""
        return [axis for axis, seeded in zip(self.result_axes, self.seeded, strict=True) if seeded]

    @property
    def count(self) -> int:
        """The number of chunks."""
        return -(-self.found.size // self.entries)

    def joint(self, entries: int) -> Joint:
        """The joint graph of a chunk."""
        if entries not in self.joints:
            seeded = [i for i, s in enumerate(self.seeded) if s]
            self.joints[entries] = joint_of(self.found.for_chunk(entries), self.needs, seeded)
        return self.joints[entries]

    @property
    def forward_operations(self) -> list[Operation]:
        """What a chunk does, with what its derivative asks of it."""
        return self.joint(self.entries).forward_operations

    def backward_part(self, entries: int) -> Partition:
        """A chunk's backward, which runs it forward again from its operands."""
        return all_again(self.joint(entries))

    def applied(self, entries: int) -> Graph:
        """A chunk's forward, custom rules applied: under differentiation a custom function's value is what its rule says."""
        graph = self.found.for_chunk(entries)
        if not any(self.seeded) or not calls_custom_rule(graph):
            return graph
        joint = self.joint(entries)
        operations = all_again(joint).forward_operations
        return Graph(joint.inputs, joint.outputs, operations, joint.constants)

    @once
    def flowing(self) -> tuple[bool, ...]:
        """For each operand whether a gradient flows back to it."""
        gradients = iter(self.joint(self.entries).gradients)
        return tuple(n and next(gradients) is not None for n in self.needs)

    @property
    def is_alike(self) -> bool:
        """Whether the same gradients flow from chunks of every size, and from all entries at once."""
        sizes = {self.entries, self.found.size % self.entries or self.entries, self.found.size}
        return len({tuple(g is None for g in self.joint(n).gradients) for n in sizes}) == 1

    def forward(self, *operands: Any) -> list[Any]:
        """The results."""
        given, _, room = self._room(operands, (), self.results, self.result_axes)

        def step(k: Any, carry: list[Any], entries: int) -> list[Any]:
            values = self._cut(given, self.axes, k, entries)
            graph = self.applied(entries)
            made = typed(graph(*values), [a.aval for a in graph.outputs])
            return self._put(carry, made, self.result_axes, k)

        made = self._over_chunks(step, room)
        return _ended(made, self.results)

    def backward(self, *inputs: Any, begun: Mapping[int, Any] = _NONE) -> list[Any]:
        """The gradients of the operands to which one flows.

        Args:
            *inputs: the operands, then the cotangents of the seeded results.
            begun: by position, totals to which these are added.
        """
        count = len(self.operands)
        operands, cotangents = inputs[:count], inputs[count:]
        axes = [a for a, f in zip(self.axes, self.flowing, strict=True) if f]
        receiving = [v for v, f in zip(self.operands, self.flowing, strict=True) if f]
        operands, cotangents, room = self._room(operands, cotangents, receiving, axes, begun)

        def step(k: Any, carry: list[Any], entries: int) -> list[Any]:
            values = self._cut(operands, self.axes, k, entries)
            gradients = self.pulled_back(entries, values, self._cut(cotangents, self.cotangent_axes, k, entries))
            return self._put(carry, gradients, axes, k, begun)

        made = self._over_chunks(step, room)
        return _ended(made, receiving)

    def in_one_pass(self, *inputs: Any, begun: Mapping[int, Any] = _NONE) -> list[Any]:
        """The results, and the gradients as of `backward`: each chunk runs once."""
        count = len(self.operands)
        operands, cotangents = inputs[:count], inputs[count:]
        receiving = [(v, a) for v, a, f in zip(self.operands, self.axes, self.flowing, strict=True) if f]
        axes = [*self.result_axes, *(a for _, a in receiving)]
        made_of = [*self.results, *(v for v, _ in receiving)]
        operands, cotangents, room = self._room(operands, cotangents, made_of, axes, begun)

        def step(k: Any, carry: list[Any], entries: int) -> list[Any]:
            values = self._cut(operands, self.axes, k, entries)
            made = self.both(entries)(*values, *self._cut(cotangents, self.cotangent_axes, k, entries))
            return self._put(carry, made, axes, k, begun)

        made = self._over_chunks(step, room)
        return _ended(made, made_of)

    def both(self, entries: int) -> Graph:
        """A chunk's forward and backward: from its operands and cotangents to its results and the gradients that flow."""
        joint = self.joint(entries)
        gradients = [g for g in joint.gradients if g is not None]
        operations = (*joint.forward_operations, *joint.backward_operations)
        return Graph((*joint.inputs, *joint.cotangents), (*joint.outputs, *gradients), operations, joint.constants)

    def pulled_back(self, entries: int, operands: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The gradients of one chunk, of the operands to which one flows."""
        part = self.backward_part(entries)
        values = dict(zip(part.joint.inputs, operands, strict=True))
        gradients = part.run_backward((), [values[v] for v in part.reads], cotangents)
        return [g for g in gradients if g is not None]

    def summed_in(self, v: Variable) -> Any:
        """The dtype in which a total like this is carried."""
        dtype = v.aval.dtype
        narrow = jnp.issubdtype(dtype, np.floating) and dtype.itemsize < np.dtype(np.float32).itemsize
        dtype = np.dtype(np.float32) if narrow else dtype
        return dtype if self.accumulate is None else jnp.promote_types(dtype, self.accumulate)

    def _room(
        self,
        operands: Sequence[Any],
        cotangents: Sequence[Any],
        values: Sequence[Variable],
        axes: Sequence[int | None],
        begun: Mapping[int, Any] = _NONE,
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """The operands, the cotangents, and zeros for the loop to write or sum these values in.

        What is `begun` stands in place of zeros.

        Zeros that depend on nothing XLA for GPUs makes where the program begins, those of all loops in one fusion, and holds
        until each loop runs: they are made when the first cotangent that is cut is there, in a forward the first operand.
        Those of a forward and its backward are two arrays so, of which XLA for TPUs makes neither.
        """
        given = [*cotangents, *operands]
        cut = [*(self.cotangent_axes if cotangents else ()), *self.axes]
        k = next(i for i, axis in enumerate(cut) if axis is not None)
        zero, given[k] = lax.optimization_barrier((jnp.float32(0), given[k]))
        types = [self.summed_in(v) if a is None else v.aval.dtype for v, a in zip(values, axes, strict=True)]
        room = [
            lax.reshape(cast(begun[n], t), shape) if n in begun else lax.broadcast(cast(zero, t), shape)
            for n, (t, shape) in enumerate(zip(types, map(self._carried_shape, values, axes), strict=True))
        ]
        return given[len(cotangents) :], given[: len(cotangents)], room

    @property
    def _is_even(self) -> bool:
        """Whether every chunk has as many entries."""
        return self.found.size % self.entries == 0

    def _carried_shape(self, v: Variable, axis: int | None) -> tuple[int, ...]:
        """The shape in which a value is carried: even chunks have an axis of their own, along which each is one entry.

        XLA for TPUs leaves out the zeros of what a loop writes all of, if it writes one entry a turn.
        """
        shape = v.aval.shape
        if axis is None or not self._is_even:
            return shape
        return (*shape[:axis], self.count, shape[axis] // self.count, *shape[axis + 1 :])

    def _over_chunks(self, step: _Step, carry: list[Any]) -> list[Any]:
        whole, rest = divmod(self.found.size, self.entries)

        def run(k: Any, carry: list[Any]) -> list[Any]:
            return step(k, carry, self.entries)

        carry = lax.fori_loop(0, whole, run, carry)
        return step(whole, carry, rest) if rest else carry

    def _cut(self, values: Sequence[Any], axes: Sequence[int | None], k: Any, entries: int) -> list[Any]:
        start = k * self.entries
        return [
            x
            if axis is None
            else lax.dynamic_slice_in_dim(x, start * self._each(x, axis), entries * self._each(x, axis), axis)
            for x, axis in zip(values, axes, strict=True)
        ]

    def _put(
        self, carry: Sequence[Any], made: Sequence[Any], axes: Sequence[int | None], k: Any, begun: Collection[int] = ()
    ) -> list[Any]:
        """What is carried with the results of a chunk: written where they belong, or added."""

        def put(old: Any, new: Any, axis: int | None, added: bool) -> Any:
            new = cast(new, old.dtype)
            if axis is None:
                return jnp.add(old, new)
            if self._is_even:
                new, place = lax.expand_dims(new, [axis]), k
            else:
                place = k * self.entries * self._each(old, axis)
            if added:
                new = jnp.add(lax.dynamic_slice_in_dim(old, place, new.shape[axis], axis), new)
            return lax.dynamic_update_slice_in_dim(old, new, place, axis)

        return [put(*values, n in begun) for n, values in enumerate(zip(carry, made, axes, strict=True))]

    def _each(self, value: Any, axis: int) -> int:
        """Places along the axis of an array for each entry: more than one where axes are merged with it."""
        return value.shape[axis] // self.found.size


def _ended(made: Sequence[Any], values: Sequence[Variable]) -> list[Any]:
    """What a loop made, in the shapes and dtypes of these values.

    Where something is cast, nothing is read before all of it is: XLA for TPUs casts what is returned where the program
    ends, and holds the wide totals of all loops until then.
    """
    results = [cast(x.reshape(v.aval.shape), v.aval.dtype) for x, v in zip(made, values, strict=True)]
    is_cast = any(x.dtype != v.aval.dtype for x, v in zip(made, values, strict=True))
    return behind_one_barrier(results) if is_cast else results
