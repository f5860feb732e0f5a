"""Which sizes of a batch devices can share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import gcd, lcm, prod
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding

from ckptgrad.errors import OptionError
from ckptgrad.graph.naming import leaf_names, title
from ckptgrad.graph.value_types import partitions


class _Cut(NamedTuple):
    """An axis that is cut: its length, over how many devices, and the axes of the mesh."""

    length: int
    devices: int
    along: str


def size_step(make_args: Callable[[int], tuple[Any, ...]], step: Callable[..., Any], start: int, most: int) -> int:
    """The distance of sizes that devices can share: 1 where no axis that grows with the batch is cut over devices.

    Args:
        make_args: from the size of a batch to the arguments of a step.
        step: the step, for the names of its arguments.
        start, most: the smallest and the largest size.

    Raises:
        OptionError: devices cannot share the smallest batch.
    """
    cuts = dict(_cuts(step, make_args(start)))
    if not cuts:
        return 1
    later = min(2 * start, most)
    grown = dict(_cuts(step, make_args(later))) if later > start else {}
    found = 1
    for (name, axis), cut in cuts.items():
        after = grown.get((name, axis))
        rows = 0 if after is None else (after.length - cut.length) // (later - start)
        distance = cut.devices // gcd(cut.devices, rows)
        if cut.length % cut.devices:
            raise OptionError(
                f"start={start}: axis {axis} of {name} of {title(step)} has a length of {cut.length}, which {cut.devices} "
                f"devices along {cut.along} cannot share; give start= as a size that they can, such as {distance}"
            )
        found = lcm(found, distance) if rows else found
    return found


def _cuts(step: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[tuple[tuple[str, int], _Cut]]:
    """The axes of arguments that are cut over devices, by the argument's name and the axis."""
    for name, x in zip(leaf_names(step, args, {}), jax.tree.leaves(args), strict=True):
        sharding = getattr(x, "sharding", None)
        for axis, part in enumerate(partitions(sharding.spec) if isinstance(sharding, NamedSharding) else ()):
            names = part if isinstance(part, tuple) else () if part is None else (part,)
            devices = prod(sharding.mesh.shape[n] for n in names) if isinstance(sharding, NamedSharding) else 1
            if devices > 1:
                yield (name, axis), _Cut(x.shape[axis], devices, " and ".join(map(repr, names)))
