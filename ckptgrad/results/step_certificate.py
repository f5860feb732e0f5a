"""What a compiled step takes of a device's memory, and what takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ckptgrad.bytes import format_bytes
from ckptgrad.results.plan import Plan
from ckptgrad.results.shown import Shown
from ckptgrad.target.allocated import Memory
from ckptgrad.target.target import Target


@dataclass(frozen=True)
class StepValue:
    """A leaf of the arguments or of the results of a step.

    Attributes:
        name: the user's: `params['w']`.
        argument: the argument that it belongs to; of results, their position.
        bytes: on one device.
        kind: shape and dtype, as text.
        donated: of an argument, whether the step may write over it.
    """

    name: str
    argument: str
    bytes: int
    kind: str
    donated: bool = False


@dataclass(frozen=True, repr=False)
class StepCertificate(Shown):
    """What XLA's buffer assignment of a step takes of a device, argument by argument. Bytes are those of one device.

    Attributes:
        function: the name of the step.
        target: what it is compiled for.
        devices: the number of devices over which it runs.
        memory: what XLA allocates; of several processes, on the device where it allocates most.
        limit: the bytes that it was to keep to; None for none.
        arguments: the leaves of what it is given.
        results: the leaves of what it returns.
        plans: of the gradients inside that `ckptgrad.fit` planned.
        workspace_bytes: of the temporaries, the largest scratch of a library's kernel; None where that is not told.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> certificate = cg.certify(lambda w, x: w - x, jnp.ones(256), jnp.ones(256)).certificate
        >>> isinstance(certificate, cg.StepCertificate), certificate.argument_bytes, certificate.output_bytes
        (True, 2048, 1024)
    """

    function: str
    target: Target
    devices: int
    memory: Memory
    limit: int | None
    arguments: tuple[StepValue, ...]
    results: tuple[StepValue, ...]
    plans: tuple[Plan, ...] = ()
    workspace_bytes: int | None = None

    @property
    def argument_bytes(self) -> int:
        """What it is given, read or not."""
        return max(self.memory.argument_bytes, sum(value.bytes for value in self.arguments))

    @property
    def output_bytes(self) -> int:
        """What it returns beside the donated arguments that it writes over."""
        return self.memory.output_bytes - self.memory.alias_bytes

    @property
    def temporary_bytes(self) -> int:
        """What it holds while it runs."""
        return self.memory.temporary_bytes

    @property
    def peak_bytes(self) -> int:
        """All that the device holds for it: arguments, temporaries, and results that are not written over arguments."""
        return self.argument_bytes + self.temporary_bytes + self.output_bytes

    @property
    def gradient_bytes(self) -> int:
        """Of the temporaries at most, the gradients of the planned calls, of those that run one after another the most."""
        return min(self.temporary_bytes, max((plan.program.gradient_bytes for plan in self.plans), default=0))

    def of_arguments(self) -> dict[str, tuple[int, int]]:
        """For each argument its bytes, and those of them that are donated; in order."""
        found: dict[str, tuple[int, int]] = {}
        for value in self.arguments:
            held, donated = found.get(value.argument, (0, 0))
            found[value.argument] = held + value.bytes, donated + (value.bytes if value.donated else 0)
        return found

    def donatable(self) -> dict[str, int]:
        """For each argument with leaves that results could be written over, were they donated, the bytes that this saves."""
        free = [value.kind for value in self.results]
        for value in self.arguments:
            if value.donated and value.kind in free:
                free.remove(value.kind)
        saved: dict[str, int] = {}
        for value in self.arguments:
            if not value.donated and value.bytes and value.kind in free:
                free.remove(value.kind)
                saved[value.argument] = saved.get(value.argument, 0) + value.bytes
        return saved

    @property
    def donation(self) -> str:
        """What to donate, in words, and what that saves at most; empty where results can be written over nothing more."""
        saved = self.donatable()
        if not saved:
            return ""
        return (
            f"donate {', '.join(saved)} (donate_argnames), over which results can be written: up to "
            f"{format_bytes(sum(saved.values()))} less"
        )

    def rows(self) -> Iterator[tuple[str, int, str]]:
        """What takes the memory: a name, bytes, and a remark; parts of the row before start with a blank."""
        for name, (held, donated) in self.of_arguments().items():
            remark = "donated" if donated == held and held else "partly donated" if donated else ""
            yield name, held, remark
        padding = self.argument_bytes - sum(value.bytes for value in self.arguments)
        if padding > 0:
            yield "arguments, padding", padding, "how this target lays them out"
        yield "results", self.output_bytes, _written(self.memory)
        yield "temporaries", self.temporary_bytes, ""
        rest = self.temporary_bytes
        if self.plans:
            yield " gradients", self.gradient_bytes, "at most, as planned"
            rest -= self.gradient_bytes
        if self.workspace_bytes is not None:
            workspace = min(rest, self.workspace_bytes)
            yield " workspaces", workspace, "the largest of a kernel"
            rest -= workspace
        if rest != self.temporary_bytes:
            yield " activations and the rest", rest, ""

    def to_dict(self) -> dict[str, Any]:
        """The certificate as plain data."""
        return {
            "function": self.function,
            "target": str(self.target),
            "devices": self.devices,
            "limit_bytes": self.limit,
            "peak_bytes": self.peak_bytes,
            "argument_bytes": self.argument_bytes,
            "output_bytes": self.output_bytes,
            "alias_bytes": self.memory.alias_bytes,
            "temporary_bytes": self.temporary_bytes,
            "donatable_bytes": self.donatable(),
            "gradient_bytes": self.gradient_bytes if self.plans else None,
            "workspace_bytes": self.workspace_bytes,
            "arguments": _plain(self.arguments),
            "results": _plain(self.results),
            "plans": [plan.to_dict() for plan in self.plans],
        }


def _written(memory: Memory) -> str:
    return "" if not memory.alias_bytes else "beside those written over donated arguments"


def _plain(values: Sequence[StepValue]) -> list[dict[str, Any]]:
    return [{"name": v.name, "bytes": v.bytes, "type": v.kind, "donated": v.donated} for v in values]
