"""The meter `ledger`: the arrays held while a plan is run stage by stage, each buffer counted once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import dtypes

from ckptgrad.meters.meter import Reading, Subject, meter


@meter(
    "ledger",
    label="ledger, stage by stage",
    sees="boundaries, residuals, gradients and results as they are held between the actions of the plan",
    cannot_see="what a stage holds inside while it runs, and results before they are made",
)
def held_arrays(subject: Subject) -> Reading:
    """Run the plan action by action, and add up the arrays that are held after each, of sharded ones what a device holds."""
    if subject.staged is None:
        return Reading(None, "the program is not a plan's, and cannot be run stage by stage")
    held: list[int] = []
    caller = {_place(x) for x in jax.tree.leaves((subject.args, subject.kwargs)) if isinstance(x, jax.Array)}
    subject.staged(lambda arrays: held.append(_bytes(arrays, caller)))
    ends = [end for _, _, end in subject.places]
    return Reading(max(held), None, tuple(zip(ends, held, strict=True)))


def _bytes(arrays: Sequence[Any], but: set[Any]) -> int:
    bytes_by_place = {_place(x): _on_one_device(x) for x in arrays if isinstance(x, jax.Array)}
    return sum(n for place, n in bytes_by_place.items() if place not in but)


def _on_one_device(array: jax.Array) -> int:
    return array.nbytes * math.prod(array.sharding.shard_shape(array.shape)) // max(array.size, 1)


def _place(array: jax.Array) -> Any:
    """What tells buffers apart."""
    if dtypes.issubdtype(array.dtype, dtypes.prng_key) or len(array.devices()) > 1:
        return id(array)
    return array.unsafe_buffer_pointer()
