"""Seventy billion parameters on pods that need not be here: bytes of one device, what is repeated, and communication."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled

import ckptgrad as cg
from ckptgrad.bench.on_target import RefusedError, for_target, kept_values, plan_for, rival_for
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.bytes import Budget
from ckptgrad.example_models import Problem, argument_axes, llama, plain, without_arrays
from ckptgrad.target.hlo.counts import collective_counts, product_flops
from ckptgrad.target.hlo.text import read_module

ABOUT = """Llama's transformer of 70 billion parameters in bfloat16 (80 layers in a scan, width 8,192, 64 heads in 8 groups,
vocabulary 128,256, 4,096 positions), compiled for one device of each mesh, without the devices. Parameters and gradients are
cut along "data" (FSDP) and, where the mesh has it, along "model" (tensor parallelism; between layers activations are then
cut along their positions). Bytes are those of one device: "certified" is what the compiler allocates beyond the arguments,
which are parameters and tokens; gradients count. "Fits" says whether both leave room in the device's memory for the state of
Adam in float32 (12 bytes for each parameter that the device holds); "ours, in memory" has as its budget what state and
arguments leave. Sequences are those of one row of "data". "Repeated" is the arithmetic of products in the compiled program
beyond that of forward and backward once; what the compiler repeats by itself counts too. Collectives are those of one step,
in loops as often as they turn, and estimated seconds those of one step, read from the compiled program, with what devices
send each other at the rate of their links. jax.checkpoint is around each layer and keeps nothing. "Ours, smallest" is the
plan of budget="min", of those tried the one that the compiler packs into the fewest bytes. Where it does over ten times the
arithmetic, that is one checkpoint for all layers, from which it runs forward to each of them again. Of plans within a budget
the one of the least predicted seconds is taken: those of the compiled program may be a few per cent more than those of a
smaller plan. What an earlier run remembers of a program is not compiled again."""

SIZES = {
    "layers": 80, "width": 8192, "heads": 64, "groups": 8, "hidden": 28672, "context": 4096, "vocabulary": 128_256,
}  # fmt: skip
QUICK_SIZES = {"layers": 2, "width": 1024, "heads": 8, "groups": 2, "hidden": 1024, "context": 64, "vocabulary": 1024}
# Where axes are cut, by the axes of the mesh.
CUT = {
    "batch": "data", "width": "data", "heads": "model", "hidden": "model", "vocabulary": "model", "positions": "model",
}  # fmt: skip
# The columns of collectives, by XLA's names.
COLLECTIVES = {
    "all_gathers": "all-gather", "reduce_scatters": "reduce-scatter", "all_reduces": "all-reduce",
    "all_to_alls": "all-to-all", "permutes": "collective-permute",
}  # fmt: skip
# Float32 moments, and parameters in float32.
STATE_BYTES_PER_PARAMETER = 12


class Pod(NamedTuple):
    """A target, the shape of the mesh over its devices ("data", and "model" where there are two), and sequences to try."""

    target: str
    shape: tuple[int, ...]
    sequences: tuple[int, ...]


PODS = {
    "h100-64": Pod("h100:64", (64,), (1, 4)),
    "h100-256": Pod("h100:256", (256,), (4,)),
    "h100-1024": Pod("h100:1024", (128, 8), (8, 32)),
}


@dataclass(frozen=True)
class Layout:
    """How arrays are cut over a mesh, by the names of their axes."""

    mesh: Mesh

    def sharding(self, axes: Sequence[str | None]) -> NamedSharding:
        """The sharding of an array with these axes; those that the mesh does not cut are whole."""
        cut = (CUT.get(axis or "") for axis in axes)
        return NamedSharding(self.mesh, PartitionSpec(*(name if name in self.mesh.axis_names else None for name in cut)))

    def __call__(self, x: jax.Array, *axes: str | None) -> jax.Array:
        return lax.with_sharding_constraint(x, self.sharding(axes))

    def placed(self, args: Any) -> Any:
        """The types of the model's arguments with their shardings."""

        def one(x: jax.ShapeDtypeStruct, axes: Sequence[str | None]) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.sharding(axes))

        return jax.tree.map(one, args, argument_axes())


@dataclass(frozen=True)
class Setting:
    """The model on one mesh, with a number of sequences for each row of "data"."""

    bench: Bench
    target: cg.Target
    shape: tuple[int, ...]
    sequences: int

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Those of the model; its batch is that of all devices."""
        return self.bench.size(SIZES, QUICK_SIZES) | {"batch": self.sequences * self.shape[0]}

    def problem(self, wrap: Callable[[Callable], Callable] = plain) -> Problem:
        """The loss, and the types of its arguments, as they lie on the mesh."""
        layout = Layout(self.target.mesh(self.shape, ("data", "model")[: len(self.shape)]))
        loss, args = without_arrays(llama, jnp.bfloat16, wrap=wrap, place=layout, **self.sizes)
        return loss, layout.placed(args)

    @property
    def group(self) -> str:
        """The rows' group: the mesh, and the sequences."""
        mesh = " x ".join(map(str, self.shape))
        return f"{mesh}, {self.sequences} {'sequence' if self.sequences == 1 else 'sequences'}"

    @property
    def room(self) -> int | None:
        """Bytes of a device that arguments and the optimizer's state leave."""
        _, args = self.problem()
        state = sum(STATE_BYTES_PER_PARAMETER * prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(args[0]))
        arguments = sum(x.dtype.itemsize * prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(args))
        memory = self.target.memory_bytes
        return None if memory is None else memory - state - arguments

    def rows(self) -> Iterator[Row]:
        """jax.checkpoint; our plans within its bytes and within the device's memory, and the smallest one."""
        self.bench.announce(f"{self.group}: jax.checkpoint")
        rival = self.rival()
        yield rival
        certified = rival.values.get("certified_bytes")
        if certified is not None:
            yield self.ours("ours for checkpoint", int(certified))
        yield self.ours("ours, in memory", self.room)
        yield self.ours("ours, smallest", "min")

    def rival(self) -> Row:
        """jax.checkpoint of each layer."""
        loss, args = self.problem(jax.checkpoint)
        try:
            executable, seconds = rival_for(self.target, loss, args)
        except RefusedError as refused:
            return row("jax.checkpoint", self.group, skipped=str(refused))
        return row("jax.checkpoint", self.group, **self.judged(executable), compile_seconds=seconds)

    def ours(self, run: str, budget: Budget) -> Row:
        """Our plan within a budget."""
        self.bench.announce(f"{self.group}: {run}")
        loss, args = self.problem()
        try:
            certified, seconds = plan_for(self.target, loss, args, budget)
        except RefusedError as refused:
            return row(run, self.group, skipped=str(refused))
        values = kept_values(certified) | self.judged(certified.executable)
        return row(run, self.group, **values, compile_seconds=seconds)

    def judged(self, executable: Compiled) -> dict[str, Any]:
        """What the compiled program says of itself."""
        memory, module = self.target.allocated(executable), read_module(executable.as_text() or "")
        counted, room = collective_counts(module), self.room
        return {
            "certified_bytes": memory.peak_bytes,
            "arguments_bytes": memory.argument_bytes,
            "temporaries_bytes": memory.temporary_bytes,
            "fits": None if room is None else "yes" if memory.peak_bytes <= room else "no",
            "repeated_share": product_flops(module) * prod(self.shape) / products_once(self.sizes) - 1,
            "estimated_seconds": self.target.compiled_seconds(executable),
            **{name: counted[kind] for name, kind in COLLECTIVES.items()},
        }


def products_once(sizes: dict[str, int]) -> int:
    """The arithmetic of the model's products, forward and backward once: two products back for each one forward."""
    width, hidden, context = sizes["width"], sizes["hidden"], sizes["context"]
    shared = width * sizes["groups"] // sizes["heads"]
    layer = 2 * width**2 + 2 * width * shared + 3 * width * hidden + 2 * context * width
    tokens = sizes["batch"] * context
    return 3 * 2 * tokens * (sizes["layers"] * layer + width * sizes["vocabulary"])


def on_pod(pod: Pod, bench: Bench) -> Iterator[Row]:
    """The rows of the model on a mesh; one with the reason where the target's compiler is not installed."""

    def rows(target: cg.Target) -> Iterator[Row]:
        for sequences in bench.size(pod.sequences, pod.sequences[:1]):
            yield from Setting(bench, target, pod.shape, sequences).rows()

    return for_target(pod.target, rows)


for _name, _pod in PODS.items():
    _mesh = " x ".join(map(str, _pod.shape))
    case(f"scale-{_name}", f"70 billion parameters on a mesh of {_mesh}: {_pod.target}", ABOUT)(partial(on_pod, _pod))
