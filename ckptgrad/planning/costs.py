"""What a planner knows of a chain: bytes and seconds, nothing else.

Model: n stages, numbered from 0. Stage i reads boundary i and writes boundary i + 1; boundary 0 is the
chain's input, boundary n its end. A stage offers save options: choices of what its forward keeps for its
backward.
Aliases: Rotor's chain (Beaumont, Eyraud-Dubois, Herrmann, Joly and Shilova 2019) with several save options per
stage, as in Rockmate (Zhao et al. 2023), and with backwards that need not read their stage's input or output.
Regime: costs add up; an action takes the same time and bytes whenever it runs.
Does not: measure or estimate anything (`costs/` does), or model overlap of computation and transfers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache


@dataclass(frozen=True, slots=True)
class SaveOption:
    """One choice of what a stage's forward keeps for its backward. Bytes and seconds.

    `residual_bytes` counts the stage's private arrays only: when the backward also reads boundary i
    (`reads_input`) or boundary i + 1 (`reads_output`), these must be held at that time, and are counted as
    boundaries, once. The transients are scratch that lives only while the forward or the backward runs. That of the
    backward is negative where the backward overwrites what it reads: less is then held at its worst moment than what
    it reads and what it writes together. That of a forward is negative where what it keeps takes no memory until the
    backward, which is next. `hidden_bytes` is what a forward that does not produce boundary i + 1 takes
    beyond its transient: scratch that is gone before the output would be written is not saved by not writing it.
    `output_time` is what such a forward saves: the part of `forward_time`, and of the time of a forward that keeps nothing,
    that the output alone needs.
    """

    name: str
    residual_bytes: int
    reads_input: bool
    reads_output: bool
    forward_time: float
    backward_time: float
    forward_transient: int = 0
    backward_transient: int = 0
    hidden_bytes: int = 0
    output_time: float = 0.0

    def __post_init__(self) -> None:
        _require_non_negative(self)

    @property
    def time(self) -> float:
        """Seconds of one forward that keeps this option and of its backward."""
        return self.forward_time + self.backward_time

    @property
    def time_alone(self) -> float:
        """The same for a forward that does not produce the stage's output."""
        return self.forward_time - self.output_time + self.backward_time


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage costs. Bytes and seconds.

    `boundary_bytes` and `cotangent_bytes` are those of the stage's output, boundary i + 1. `forward_time` and
    `forward_transient` are those of a forward that keeps nothing but its output.
    """

    options: tuple[SaveOption, ...]
    boundary_bytes: int
    cotangent_bytes: int
    forward_time: float
    forward_transient: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise ValueError("a stage needs at least one save option, or it has no backward")
        _require_non_negative(self)
        for option in self.options:
            if option.output_time > min(option.forward_time, self.forward_time):
                raise ValueError(
                    f"SaveOption.output_time must be part of every forward with output, got {option.output_time!r} "
                    f"of {option.forward_time!r} and {self.forward_time!r}"
                )

    @property
    def fastest(self) -> int:
        """Index of the fastest option, forward and backward together; among equals, that with the fewest residual bytes."""
        ranks = [(option.time, option.residual_bytes) for option in self.options]
        return ranks.index(min(ranks))

    def forward_seconds(self, keep: int | None, output: bool = True) -> float:
        """Seconds of one forward that keeps option `keep`, or nothing, and produces its output or does not."""
        if keep is None:
            return self.forward_time
        option = self.options[keep]
        return option.forward_time - (0.0 if output else option.output_time)

    def lean(self, stages: int) -> int:
        """Index of the option with the fewest bytes among those about as fast as the fastest.

        Seconds are estimates, bytes are not: a few per cent of the former are not worth any of the latter.  Residuals of
        all `stages` of a chain are held together, transients one after the other.
        """
        options = self.options
        limit = (1 + ABOUT_AS_FAST) * options[self.fastest].time
        alike = [k for k, option in enumerate(options) if option.time <= limit]
        held = [option.residual_bytes + option.backward_transient / stages for option in options]
        return min(alike, key=lambda k: (held[k], options[k].time))


# Estimated times that differ by less than this share are taken as equal where no budget decides.
ABOUT_AS_FAST = 0.05


@dataclass(frozen=True)
class ChainCosts:
    """What a chain costs. Bytes.

    `input_bytes` and `input_cotangent_bytes` are those of boundary 0: charge 0 for an input that the caller
    holds anyway. `held_bytes` is held through the whole call: outputs, and values that live across many
    stages.
    """

    stages: tuple[StageCost, ...]
    input_bytes: int = 0
    input_cotangent_bytes: int = 0
    held_bytes: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise ValueError("a chain needs at least one stage")
        _require_non_negative(self)

    def __len__(self) -> int:
        return len(self.stages)

    def boundary_bytes(self, boundary: int) -> int:
        """Bytes of boundary 0 (the chain's input) to n (its end)."""
        return self.stages[boundary - 1].boundary_bytes if boundary else self.input_bytes

    def cotangent_bytes(self, boundary: int) -> int:
        """Bytes of the cotangent of boundary 0 to n."""
        return self.stages[boundary - 1].cotangent_bytes if boundary else self.input_cotangent_bytes

    @property
    def largest_transient(self) -> int:
        """The most bytes that any stage may hold inside its backward, beyond what that reads and makes."""
        return max(option.backward_transient for stage in self.stages for option in stage.options)

    @classmethod
    def of(cls, stages: Iterable[StageCost], *, held_bytes: int = 0) -> ChainCosts:
        """A chain whose input has the bytes of its first stage's output."""
        stages = tuple(stages)
        if not stages:
            raise ValueError("a chain needs at least one stage")
        return cls(stages, stages[0].boundary_bytes, stages[0].cotangent_bytes, held_bytes)

    @classmethod
    def uniform(
        cls,
        n: int,
        *,
        boundary_bytes: int = 1,
        residual_bytes: int = 1,
        cotangent_bytes: int = 1,
        forward_time: float = 1.0,
        backward_time: float = 1.0,
        reads_input: bool = False,
        reads_output: bool = False,
        held_bytes: int = 0,
    ) -> ChainCosts:
        """n equal stages with one save option each; the chain's input is a boundary like the others."""
        option = SaveOption("all", residual_bytes, reads_input, reads_output, forward_time, backward_time)
        stage = StageCost((option,), boundary_bytes, cotangent_bytes, forward_time)
        return cls.of([stage] * n, held_bytes=held_bytes)


@cache
def _names(record: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


def _require_non_negative(record: object) -> None:
    for name in _names(type(record)):
        value = getattr(record, name)
        least = -math.inf if name in ("forward_transient", "backward_transient") and isinstance(record, SaveOption) else 0
        if isinstance(value, (int, float)) and not least <= value < math.inf:
            raise ValueError(f"{type(record).__name__}.{name} must be finite and not negative, got {value!r}")
