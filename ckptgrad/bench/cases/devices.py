"""Transformers over several chips that need not be here: budgets of one device, against jax.grad and jax.checkpoint."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import ckptgrad as cg
from ckptgrad.bench.on_target import RefusedError, for_target, kept_values, plan_for, rival_for
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.bytes import Budget
from ckptgrad.example_models import Problem, attention_blocks, plain, without_arrays

ABOUT = """Transformer blocks of width 512 in bfloat16, a context of 512 tokens, 8 sequences for each device, compiled
without the devices. FSDP cuts parameters along the devices, so that they are gathered where they are used; their gradients
come whole, as the partitioner lays those of jax.grad where nothing asks for more; or cut as well, where the loss holds its
parameters to their shardings. Data x tensor cuts the batch along half as many devices and hidden axes along two. All bytes
are those of one device. Each budget lies between the smallest certified peak and that of jax.grad, in equal ratios, and
"kept" says that the certified peak does not exceed it; "off" is the distance of the certified peak from the predicted one,
and "off expected" that from what was expected: the prediction, corrected by what the compiler took for other plans of the
same stages before this one was compiled first. "Against checkpoint" is the time in proportion to that of jax.checkpoint
around each block. Estimated seconds are read from the compiled program, with what devices send each other. In the row of
all budgets, "monotone" says whether a larger budget never has a plan of more predicted seconds. Kernels for GPUs are shared
with earlier rows, and what an earlier run remembers of a program is not compiled again, so that later ones compile in less
time."""

SIZES = {"blocks": 12, "width": 512, "heads": 8, "context": 512}
QUICK_SIZES = {"blocks": 2, "width": 64, "heads": 2, "context": 64}
SEQUENCES, BUDGETS = 8, 10


class Pod(NamedTuple):
    """A target, and how many blocks are compiled for it."""

    target: str
    blocks: int


# A compilation for a pod of TPUs takes a minute or two, whatever the blocks: those of a case take half an hour.
PODS = {"h100": Pod("h100:8", 12), "v5e": Pod("v5e:4x4", 12)}


@dataclass(frozen=True)
class Way:
    """How a model is laid over the devices.

    Attributes:
        tensor: the size of the axis along which hidden axes are cut; 1 where there is none.
        spec: from the shape of a parameter to where it lies.
        holds: whether the loss holds its parameters to lie so, and their gradients with them.
    """

    tensor: int
    spec: Callable[[tuple[int, ...]], PartitionSpec]
    holds: bool = False

    def placed(self, target: cg.Target, args: Any) -> Any:
        """The types of a model's arguments, laid over the devices of a target."""
        shape = (len(target.devices) // self.tensor, self.tensor)
        mesh = target.mesh(shape, ("data", "model")) if self.tensor > 1 else target.mesh(shape[:1], ("data",))

        def laid(x: jax.ShapeDtypeStruct, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

        params, x = args
        return jax.tree.map(lambda a: laid(a, self.spec(a.shape)), params), laid(x, PartitionSpec("data"))


def _cut_rows(shape: tuple[int, ...]) -> PartitionSpec:
    return PartitionSpec("data") if len(shape) > 1 else PartitionSpec()


def _cut_hidden(shape: tuple[int, ...]) -> PartitionSpec:
    """Columns of what leads to a hidden axis, rows of what leads back, as Megatron-LM cuts them (Shoeybi et al. 2019)."""
    if len(shape) < 2:
        return PartitionSpec()
    return PartitionSpec(None, "model") if shape[1] > shape[0] else PartitionSpec("model")


WAYS = {
    "FSDP": Way(1, _cut_rows),
    "FSDP, gradients cut": Way(1, _cut_rows, holds=True),
    "data x tensor": Way(2, _cut_hidden),
}


@dataclass(frozen=True)
class Setting:
    """One way on one target."""

    bench: Bench
    target: cg.Target
    blocks: int
    name: str

    def problem(self, wrap: Callable[[Callable], Callable] = plain) -> Problem:
        """The loss, and the types of its arguments as they lie; `wrap` is applied to the block."""
        sizes = self.bench.size(SIZES | {"blocks": self.blocks}, QUICK_SIZES) | {
            "batch": SEQUENCES * len(self.target.devices)
        }
        loss, args = without_arrays(attention_blocks, jnp.bfloat16, wrap=wrap, **sizes)
        way = WAYS[self.name]
        placed = way.placed(self.target, args)
        return (_holding(loss, placed[0]) if way.holds else loss), placed

    def rows(self) -> Iterator[Row]:
        """jax.grad and jax.checkpoint; our plans without a budget, within checkpoint's bytes, and over many budgets."""
        grad = self.rival("jax.grad", plain)
        yield grad
        checkpoint = self.rival("jax.checkpoint", jax.checkpoint)
        yield checkpoint
        most, within = grad.values.get("certified_bytes"), checkpoint.values.get("certified_bytes")
        seconds = checkpoint.values.get("estimated_seconds")
        against = float(seconds) if seconds is not None else None
        yield self.ours("ours, no budget", None, against)[0]
        if within is not None:
            yield self.ours("ours for checkpoint", int(within), against)[0]
        least, certified = self.ours("ours, smallest", "min", against)
        yield least
        if certified is not None and most is not None:
            yield from self.swept(certified.peak_bytes, int(most), against)

    def swept(self, least: int, most: int, against: float | None) -> Iterator[Row]:
        """Our plans within many budgets, and what holds for all of them."""
        found: list[cg.Certified] = []
        count = self.bench.size(BUDGETS, 2)
        for number, budget in enumerate(np.geomspace(least, most, count), start=1):
            ours, certified = self.ours(f"ours, budget {number} of {count}", int(budget), against)
            yield ours
            found += [certified] if certified is not None else []
        off = [abs(c.peak_bytes / c.plan.peak_bytes - 1) for c in found]
        off_expected = [abs(c.peak_bytes / (c.expected_bytes or c.plan.peak_bytes) - 1) for c in found]
        yield row(
            "ours, all budgets",
            self.name,
            budgets=count,
            kept=sum(c.budget is not None and c.peak_bytes <= c.budget for c in found),
            monotone=all(b.plan.seconds <= a.plan.seconds * (1 + 1e-9) for a, b in itertools.pairwise(found)),
            off_median_share=statistics.median(off),
            off_worst_share=max(off),
            off_expected_median_share=statistics.median(off_expected),
            off_expected_worst_share=max(off_expected),
        )

    def rival(self, run: str, wrap: Callable[[Callable], Callable]) -> Row:
        """jax.grad with `wrap` around each block."""
        self.bench.announce(f"{self.name}: {run}")
        try:
            executable, seconds = rival_for(self.target, *self.problem(wrap))
        except RefusedError as refused:
            return row(run, self.name, skipped=str(refused))
        peak, estimated = self.target.allocated(executable).peak_bytes, self.target.compiled_seconds(executable)
        return row(run, self.name, certified_bytes=peak, estimated_seconds=estimated, compile_seconds=seconds)

    def ours(self, run: str, budget: Budget, against: float | None) -> tuple[Row, cg.Certified | None]:
        """Our plan within a budget, against a rival's time; and its certificate, where there is one."""
        self.bench.announce(f"{self.name}: {run}")
        try:
            certified, seconds = plan_for(self.target, *self.problem(), budget)
        except RefusedError as refused:
            return row(run, self.name, skipped=str(refused)), None
        estimated = self.target.compiled_seconds(certified.executable)
        values = kept_values(certified) | {"certified_bytes": certified.peak_bytes, "estimated_seconds": estimated}
        if certified.plan.is_predicted:
            values["off_share"] = abs(certified.peak_bytes / certified.plan.peak_bytes - 1)
        if certified.expected_bytes is not None:
            values["expected_bytes"] = certified.expected_bytes
            values["off_expected_share"] = abs(certified.peak_bytes / certified.expected_bytes - 1)
        if against is not None and estimated is not None:
            values["time_against_checkpoint_ratio"] = estimated / against
        return row(run, self.name, **values, plans_compiled=certified.rounds, compile_seconds=seconds), certified


def _holding(loss: Callable[..., Any], params: Any) -> Callable[..., Any]:
    """A loss whose parameters are held to lie as these: so are their gradients, which are in parts on each device then."""
    shardings = jax.tree.map(lambda a: a.sharding, params)
    return lambda params, x: loss(jax.lax.with_sharding_constraint(params, shardings), x)


def on_pod(pod: Pod, way: str, bench: Bench) -> Iterator[Row]:
    """The rows for one way; one with the reason where the target's compiler is not installed."""
    return for_target(pod.target, lambda target: Setting(bench, target, pod.blocks, way).rows())


for _name, _pod in PODS.items():
    for _way in WAYS:
        case(
            f"devices-{_name}-{_way.lower().replace(' x ', '-').replace(', ', '-').replace(' ', '-')}",
            f"{_pod.blocks} transformer blocks over devices by {_way}, ten budgets: {_pod.target}",
            ABOUT,
        )(partial(on_pod, _pod, _way))
