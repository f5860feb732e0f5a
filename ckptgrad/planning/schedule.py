"""Actions and schedules: what the runtime executes and what every policy writes.

Each action is read as a sentence. Residuals, and the cotangent that a backward consumes, are dropped by the
backward itself; boundaries are dropped by `Free`, and by `Offload`, after which `Fetch` holds them again. Boundary 0 and
the cotangent of boundary n are there from the start. At the end the chain's result, boundary n, and the cotangent of
boundary 0 are held, and nothing else.
Does not: know sizes or times (`costs`), or check itself (`simulate`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import TypeAlias

from ckptgrad.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class Forward:
    """Read boundary `stage`, run the stage, hold boundary `stage + 1` and the residuals of save option `keep`.

    `keep=None` keeps no residuals. `output=False` does not produce boundary `stage + 1`: nothing
    reads it right before the stage's own backward. A boundary that is held already is replaced by the one produced.

    Example:
        >>> import ckptgrad as cg
        >>> print(cg.Forward(3), cg.Forward(3, keep=1), cg.Forward(3, keep=1, output=False))
        F3 F3:1 F3:1~
    """

    stage: int
    keep: int | None = None
    output: bool = True

    @property
    def about(self) -> int:
        """The stage."""
        return self.stage

    @property
    def scope(self) -> str:
        """The named scope of the action's work, by which XLA's programs and profilers know it."""
        return f"forward_{self.stage}"

    def __str__(self) -> str:
        return f"F{self.stage}{'' if self.keep is None else f':{self.keep}'}{'' if self.output else '~'}"


@dataclass(frozen=True, slots=True)
class Backward:
    """Turn the cotangent of boundary `stage + 1` into that of boundary `stage`; drop the former and the residuals.

    Example:
        >>> import ckptgrad as cg
        >>> print(cg.Backward(3))
        B3
    """

    stage: int

    @property
    def about(self) -> int:
        """The stage."""
        return self.stage

    @property
    def scope(self) -> str:
        """As that of `Forward`."""
        return f"backward_{self.stage}"

    def __str__(self) -> str:
        return f"B{self.stage}"


@dataclass(frozen=True, slots=True)
class Free:
    """Drop boundary `boundary`.

    Example:
        >>> import ckptgrad as cg
        >>> print(cg.Free(3))
        -3
    """

    boundary: int

    @property
    def about(self) -> int:
        """The boundary."""
        return self.boundary

    @property
    def scope(self) -> None:
        """None: nothing is done for it."""

    def __str__(self) -> str:
        return f"-{self.boundary}"


@dataclass(frozen=True, slots=True)
class Offload:
    """Send boundary `boundary` to a tier, unless that holds it already, and drop it from the device.

    The tier's copy is there until the boundary is freed.  `tier` is the number of the tier, among those that are given.

    Example:
        >>> import ckptgrad as cg
        >>> print(cg.planning.Offload(3), cg.planning.Offload(3, tier=1))
        >3 >3:1
    """

    boundary: int
    tier: int = 0

    @property
    def about(self) -> int:
        """The boundary."""
        return self.boundary

    @property
    def scope(self) -> None:
        """None: nothing is computed for it."""

    def __str__(self) -> str:
        return f">{self.boundary}{f':{self.tier}' if self.tier else ''}"


@dataclass(frozen=True, slots=True)
class Fetch:
    """Hold boundary `boundary`, which is on a tier, on the device again.

    Example:
        >>> import ckptgrad as cg
        >>> print(cg.planning.Fetch(3))
        <3
    """

    boundary: int
    tier: int = 0

    @property
    def about(self) -> int:
        """The boundary."""
        return self.boundary

    @property
    def scope(self) -> None:
        """None: nothing is computed for it."""

    def __str__(self) -> str:
        return f"<{self.boundary}{f':{self.tier}' if self.tier else ''}"


Action: TypeAlias = Forward | Backward | Free | Offload | Fetch


@dataclass(frozen=True)
class Schedule:
    """An order of actions, and the name of the policy that wrote it.

    As text: `F3` forwards stage 3, `F3:1` does and keeps option 1, `~` marks a forward without output,
    `B3` is stage 3's backward, `-3` frees boundary 3; `>3` sends it to the first tier, `<3:1` fetches it from the second.

    Example:
        >>> import ckptgrad as cg
        >>> schedule = cg.Schedule.parse(["F0", "F1:0", "B1", "F0:0", "B0", "-0"], "mine")
        >>> schedule.recomputations, schedule.kept
        (1, {1: 0, 0: 0})
    """

    actions: tuple[Action, ...]
    policy: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", tuple(self.actions))

    def __len__(self) -> int:
        return len(self.actions)

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    def __str__(self) -> str:
        return f"{self.policy}: {' '.join(map(str, self.actions))}"

    @classmethod
    def parse(cls, actions: Iterable[str], policy: str) -> Schedule:
        """The schedule of actions in the notation of `str`, one text per action.

        Raises:
            ScheduleError: a text is not an action.
        """
        return cls(tuple(map(_parse, actions)), policy)

    @property
    def stages(self) -> int:
        """How many stages the schedule differentiates."""
        return sum(isinstance(action, Backward) for action in self.actions)

    @property
    def forwards(self) -> int:
        """How many forwards run, first ones and repeated ones."""
        return sum(isinstance(action, Forward) for action in self.actions)

    @property
    def recomputations(self) -> int:
        """How many forwards repeat one that ran before."""
        return self.forwards - len({action.stage for action in self.actions if isinstance(action, Forward)})

    @property
    def sent(self) -> int:
        """How many boundaries are sent to a tier; one of which the tier has a copy already is not sent again."""
        away, count = set[int](), 0
        for action in self.actions:
            if isinstance(action, Free):
                away.discard(action.boundary)
            elif isinstance(action, Offload) and action.boundary not in away:
                away.add(action.boundary)
                count += 1
        return count

    @property
    def kept(self) -> dict[int, int]:
        """The save option from which each stage's backward runs."""
        keeps = (action for action in self.actions if isinstance(action, Forward))
        return {action.stage: action.keep for action in keeps if action.keep is not None}


def unknown_action(action: object, index: int | None = None) -> ScheduleError:
    """The error to raise for an action that cannot be followed."""
    written = "Forward(stage), Backward(stage), Free(boundary), Offload(boundary) or Fetch(boundary)"
    what = f"{action!r} is not an action; write {written}, each with an int"
    return ScheduleError(what, index, action)


def is_well_formed(action: object) -> bool:
    """Whether it is an action, and its numbers are integers."""
    if isinstance(action, Forward):
        return _is_integer(action.stage) and (action.keep is None or _is_integer(action.keep)) and _is_bool(action.output)
    if isinstance(action, Offload | Fetch):
        return _is_integer(action.boundary) and _is_integer(action.tier)
    return isinstance(action, Backward | Free) and _is_integer(action.about)


def _is_integer(number: object) -> bool:
    # The first is by far the quickest to tell, and there may be millions of actions.
    return type(number) is int or (not _is_bool(number) and isinstance(number, Integral))


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


# At most 18 digits: no chain has as many stages.
_ACTION = re.compile(
    r"F(?P<forward>[0-9]{1,18})(:(?P<keep>[0-9]{1,18}))?(?P<bare>~)?|B(?P<backward>[0-9]{1,18})|-(?P<free>[0-9]{1,18})"
    r"|(?P<way>[<>])(?P<boundary>[0-9]{1,18})(:(?P<tier>[0-9]{1,18}))?"
)


def _parse(text: object) -> Action:
    match = _ACTION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ScheduleError(f"{text!r} is not an action; write F3, F3:1, F3:1~, B3, -3, >3 or <3")
    if match["forward"]:
        keep = None if match["keep"] is None else int(match["keep"])
        return Forward(int(match["forward"]), keep, match["bare"] is None)
    if match["way"]:
        return (Offload if match["way"] == ">" else Fetch)(int(match["boundary"]), int(match["tier"] or 0))
    return Backward(int(match["backward"])) if match["backward"] else Free(int(match["free"]))
