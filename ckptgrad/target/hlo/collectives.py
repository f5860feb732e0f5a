"""Seconds of collectives: by what each device receives, at the rate of the links between those that take part.

On a ring of n devices a gather or a scatter of b bytes passes b (n - 1) / n to each, and a reduction whose result all have
twice that. Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH (2005), section 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ckptgrad.target.hlo.text import Instruction, Module
from ckptgrad.target.links import Links

# From a collective of n devices to the bytes that each receives, for one byte of its operands.
_RECEIVED: dict[str, Callable[[int], float]] = {
    "all-gather": lambda n: n - 1,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-broadcast": lambda n: 1,
    "collective-permute": lambda n: 1,
}
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_LISTED = re.compile(r"\breplica_groups=\{(\{[\d,{} ]*\})\}")
_COUNTED = re.compile(r"\breplica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"\breplica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\]\))? ?\{([^}]*)\}")
_AXIS = re.compile(r"'([^']+)'=(\d+)")
_PAIRS = re.compile(r"\bsource_target_pairs=\{(.*?)\}\}")


def kind_of(instruction: Instruction) -> str | None:
    """What a collective does, whether it is waited for or only started; None for other instructions."""
    name = instruction.opcode.removesuffix("-start")
    return name if name in _RECEIVED else None


def channel_of(instruction: Instruction) -> str:
    """What tells a collective from others of its computation."""
    channel = _CHANNEL.search(instruction.attributes)
    return channel[1] if channel else instruction.name


@dataclass(frozen=True)
class Sent:
    """What devices send each other in one collective.

    Attributes:
        channel: what tells it from others of its computation; several instructions may carry one on.
        seconds: that it takes.
    """

    channel: str
    seconds: float


def collectives_of(
    instruction: Instruction, module: Module, links: Links, inside: Mapping[str, Instruction]
) -> Iterator[Sent]:
    """The collective that an instruction is, or those that a fusion or a started computation holds.

    Args:
        instruction: of the program.
        module: the program.
        links: between the devices.
        inside: the instructions of its computation.
    """
    kind = kind_of(instruction)
    if kind is not None:
        yield Sent(channel_of(instruction), _seconds(instruction, kind, links, inside))
    elif instruction.opcode in ("fusion", "async-start"):
        for name in instruction.called:
            body = module.computations.get(name, {})
            for i in body.values():
                yield from collectives_of(i, module, links, body)


def is_started(instruction: Instruction, module: Module) -> bool:
    """Whether an instruction only starts its collectives."""
    return instruction.opcode.endswith("-start") or _calls_for(instruction, module, "AsyncCollectiveStart")


def is_waited_for(instruction: Instruction, module: Module) -> bool:
    """Whether the collectives of an instruction, or of its operands, are over after it."""
    return instruction.opcode.endswith("-done") or _calls_for(instruction, module, "AsyncCollectiveDone")


def _calls_for(instruction: Instruction, module: Module, target: str) -> bool:
    bodies = [module.computations.get(name, {}) for name in instruction.called] if instruction.opcode == "fusion" else []
    return any(i.opcode == "custom-call" and f'"{target}"' in i.attributes for body in bodies for i in body.values())


def _seconds(instruction: Instruction, kind: str, links: Links, inside: Mapping[str, Instruction]) -> float:
    members = _members(instruction)
    # Of a program that does not say which take part, two.
    count, span = (members.size, int(np.ptp(members)) + 1) if members.size else (2, 2)
    operands = sum(inside[name].bytes for name in instruction.operands if name in inside)
    return links.seconds(operands * _RECEIVED[kind](count), span) if count > 1 else 0.0


def _members(instruction: Instruction) -> np.ndarray:
    """The numbers of the devices of its first group."""
    text = instruction.attributes
    if listed := _LISTED.search(text):
        return _numbers(listed[1].partition("}")[0])
    if counted := _COUNTED.search(text):
        devices = np.arange(prod(_numbers(counted[2]))).reshape(_numbers(counted[2]))
        if counted[3]:
            devices = devices.transpose(_numbers(counted[3]))
        return devices.reshape(_numbers(counted[1]))[0]
    if mesh := _MESH.search(text):
        axes = _AXIS.findall(mesh[1])
        sizes = [int(size) for _, size in axes]
        devices = (_numbers(mesh[2]) if mesh[2] else np.arange(prod(sizes))).reshape(sizes)
        return devices[tuple(slice(None) if f"'{name}'" in mesh[3] else 0 for name, _ in axes)].ravel()
    if pairs := _PAIRS.search(text):
        ends = _numbers(pairs[1]).reshape(-1, 2)
        return ends[np.argmax(np.abs(ends[:, 0] - ends[:, 1]))]
    return np.array([], int)


def _numbers(text: str) -> np.ndarray:
    return np.array([int(n) for n in re.findall(r"\d+", text)], int)
