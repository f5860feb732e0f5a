"""What `chunks=` asks for: whether stages may run over chunks of an axis, and where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ckptgrad.errors import OptionError

# Unless they are asked for whatever the size, chunks are considered where some stage holds as many bytes inside: below, what
# a compiled program takes beside what is predicted weighs more than what they save.
LEAST_INSIDE = 2**20


_WHOLE = re.compile(r"not axis (?P<axis>-?\d+) of (?P<name>\S.*)")


@dataclass(frozen=True)
class ChunkChoice:
    """Whether stages may run over chunks of an axis.

    Attributes:
        considered: whether they may, where a budget asks for it.
        at_any_size: whether also those of a call in which no stage holds much inside.
        whole: axes that stay whole: the user's name of an argument, or of a leaf of it, and the axis.
    """

    considered: bool
    at_any_size: bool = False
    whole: tuple[tuple[str, int], ...] = ()

    def whole_axes(self, names: Sequence[str], ranks: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """For each leaf of a call, by its position, the axes that stay whole; only for those that have such.

        Args:
            names: the user's names of the leaves: `batch['tokens']`.
            ranks: the number of axes of each.

        Raises:
            OptionError: no leaf has this name, or as many axes.
        """
        found: dict[int, tuple[int, ...]] = {}
        for name, axis in self.whole:
            named = [k for k, leaf in enumerate(names) if leaf == name or leaf.startswith((f"{name}[", f"{name}."))]
            if not named:
                there = ", ".join(dict.fromkeys(re.split(r"[\[.]", leaf)[0] for leaf in names))
                raise OptionError(f"chunks={_written(name, axis)!r}: there is no {name} among the arguments {there}")
            fitting = [k for k in named if -ranks[k] <= axis < ranks[k]]
            if not fitting:
                most = max(ranks[k] for k in named)
                raise OptionError(f"chunks={_written(name, axis)!r}: {name} has {most} axes, from 0 on")
            for k in fitting:
                found[k] = (*found.get(k, ()), axis % ranks[k])
        return found

    def is_worth(self, inside: int) -> bool:
        """Whether chunks are considered where no stage holds more bytes inside than this."""
        return self.considered and (self.at_any_size or inside >= LEAST_INSIDE)


def read_chunks(choice: Any) -> ChunkChoice:
    """The value of the option `chunks`; a `ChunkChoice` stays as it is.

    Args:
        choice: True, False, "auto", or axes that stay whole, one or several: "not axis 1 of batch['tokens']".

    Raises:
        OptionError: it is none of these.

    Example:
        >>> read_chunks("auto").considered, read_chunks("not axis 1 of batch['tokens']").whole
        (True, (("batch['tokens']", 1),))
    """
    if isinstance(choice, ChunkChoice):
        return choice
    if isinstance(choice, bool):
        return ChunkChoice(choice, at_any_size=choice)
    if isinstance(choice, str) and choice == "auto":
        return ChunkChoice(considered=True)
    texts: list[Any] = [choice] if isinstance(choice, str) else [*choice] if isinstance(choice, (list, tuple)) else []
    found = [_WHOLE.fullmatch(text) if isinstance(text, str) else None for text in texts]
    if not found or None in found:
        raise OptionError(
            f'chunks={choice!r} must be True, False, "auto", or axes that stay whole: "not axis 1 of batch[\'tokens\']"'
        )
    return ChunkChoice(considered=True, whole=tuple((m["name"], int(m["axis"])) for m in found if m is not None))


def read_written_chunks(texts: Sequence[str]) -> Any:
    """As the command line gives it: `true`, `false`, `auto`, or axes that stay whole.

    Example:
        >>> read_written_chunks(["false"]), read_written_chunks(["not axis 1 of tokens"])
        (False, ('not axis 1 of tokens',))
    """
    words = {"true": True, "false": False, "auto": "auto"}
    return words.get(texts[0].lower(), tuple(texts)) if len(texts) == 1 else tuple(texts)


def _written(name: str, axis: int) -> str:
    return f"not axis {axis} of {name}"
