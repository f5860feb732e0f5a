# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""How a value of the body of a `shard_map` lies outside of it, where it crosses from one part to another.

What a device has of it leaves along a first axis that is sharded over the devices on which it differs, and enters the same
way, as residuals of its derivative do (`rules.sharded`): every device goes on with what it had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import lax
from jax.sharding import PartitionSpec as P

from ckptgrad.graph.value_types import partitions, varying_axes
from ckptgrad.rules.sharded import Mapped, own_axes, residual_spec


@dataclass(frozen=True)
class Lying:
    """How a value lies.

    Attributes:
        spec: the specification with which it enters and leaves.
        axis: the axis of length 1 that it has outside and not in the body, as it has none that could be cut.
    """

    spec: Any
    axis: int | None = None

    def enter(self, value: Any) -> Any:
        """The value in the body."""
        return value if self.axis is None else lax.squeeze(value, (self.axis,))

    def leave(self, value: Any) -> Any:
        """The value as it is returned from the body."""
        return value if self.axis is None else lax.expand_dims(value, (self.axis,))

    def same(self, other: Lying) -> bool:
        """Whether both are one, written the same way or not."""
        return (self._cut, self._sums, self.axis) == (other._cut, other._sums, other.axis)

    def cuts_along(self, axes: frozenset[Any]) -> bool:
        """Whether it is cut along these axes of the mesh, and no others."""
        found = [axis for part in self._cut for axis in part]
        return frozenset(found) == axes and not any(self._sums) and self.axis is None

    @property
    def is_whole(self) -> bool:
        """Whether each device has all of it."""
        return not self._cut and not any(self._sums) and self.axis is None

    @property
    def first_axes(self) -> tuple[Any, ...]:
        """The axes of the mesh along which its first axis is cut; none where others are too, or values are to be summed."""
        alone = len(self._cut) == 1 and not any(self._sums) and self.axis is None
        return self._cut[0] if alone else ()

    @property
    def stack(self) -> Lying:
        """How a stack of such values lies: each device has its part of every one."""
        return Lying(_with_partitions(self.spec, None, *partitions(self.spec)), None if self.axis is None else self.axis + 1)

    @property
    def entry(self) -> Lying | None:
        """How the entries of a stack lie; None where devices have different entries."""
        first, *rest = partitions(self.spec) or (None,)
        if first or self.axis == 0:
            return None
        return Lying(_with_partitions(self.spec, *rest), None if self.axis is None else self.axis - 1)

    @property
    def _cut(self) -> tuple[tuple[Any, ...], ...]:
        """The axes of the mesh for each axis of the value, without those at the end that are whole."""
        parts: list[tuple[Any, ...]] = [
            part if isinstance(part, tuple) else () if part is None else (part,) for part in partitions(self.spec)
        ]
        while parts and not parts[-1]:
            parts.pop()
        return tuple(parts)

    @property
    def _sums(self) -> tuple[frozenset[Any], ...]:
        return tuple(frozenset(getattr(self.spec, how, None) or ()) for how in ("reduced", "unreduced"))


def _with_partitions(spec: Any, *parts: Any) -> Any:
    sums = {how: axes for how in ("reduced", "unreduced") if (axes := frozenset(getattr(spec, how, None) or ()))}
    return P(*parts, **sums)


def kept(op: Mapped, aval: Any) -> Lying:
    """How a value of the body of `op` lies where each device keeps its own."""
    spec = residual_spec(op, aval)
    return Lying(spec, None if aval.shape or not partitions(spec) else 0)


def differs_along(op: Mapped, aval: Any) -> frozenset[Any]:
    """The axes of the mesh along which a value of the body may differ."""
    return frozenset(varying_axes(aval)) if op.params["check_vma"] else own_axes(op)
