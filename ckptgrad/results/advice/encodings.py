# pyright: reportUnknownMemberType=false
"""Values that a plan keeps and that an encoding would keep in fewer bytes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import jax

from ckptgrad.bytes import format_bytes
from ckptgrad.results.advice.advice import Sentence, adviser
from ckptgrad.stage.encodings.encoding import Encoding, get_encoding, registered

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

# What an encoding saves is worth naming from this share of the peak on.
WORTH = 0.01


@adviser(order=6)
def advise(plan: Plan) -> Iterator[Sentence]:
    """For each exact encoding that is not in use: what is held at the peak that it takes, and the bytes of its codes.

    Of inexact ones nothing is said: whether their error stays small is proved while stages are made with them.
    """
    for one in map(get_encoding, registered()):
        name = one.name
        if not one.is_exact:
            continue
        kept = [
            b
            for b in plan.at_peak.held
            if b.kind == "residuals" and b.stage is not None and name not in plan.program.stages[b.stage].kind.encodings
        ]
        taken = [(b.bytes, code) for b in kept if (code := _code_bytes(one, b.shape, b.dtype)) is not None]
        before, after = sum(size for size, _ in taken), sum(code for _, code in taken)
        if before - after >= WORTH * plan.peak_bytes:
            yield (
                f"encodings={name!r} keeps what takes {format_bytes(before)} at the peak in {format_bytes(after)}",
                {"encoding": name, "bytes": before, "encoded_bytes": after},
            )


def _code_bytes(one: Encoding, shape: tuple[int, ...] | None, dtype: str | None) -> int | None:
    """The bytes of an array's code; None where the encoding is not for it."""
    if shape is None or dtype is None:
        return None
    try:
        struct: Any = jax.ShapeDtypeStruct(shape, dtype)
    except TypeError:  # an extended dtype, such as that of random keys
        return None
    if not one.takes(struct):
        return None
    code: list[Any] = jax.tree.leaves(jax.eval_shape(one.encode, struct))
    return sum(prod(part.shape) * part.dtype.itemsize for part in code)
