"""What values may be kept as: the registry of encodings.

To add one: a file here that registers it, and an import of it in this folder's `__init__`.  Which values of a stage are kept
as what is for `coded` to say, and whether they are for the planner, by bytes and seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ckptgrad.errors import OptionError

# The exact ones, where a budget asks for it; and none, as it is written.
AUTO, NONE = "auto", "none"
# Elements below which it is not worth the operations.
FEWEST = 1024


@dataclass(frozen=True)
class Encoding:
    """One way to keep a value.

    Attributes:
        name: by which users ask for it.
        takes: whether it is for a value of this abstract value.
        encode: from an array to the arrays of its code, in `jax.lax`.
        decode: from these and the array's abstract value to the array.
        error: the relative error of a gradient, largest difference to largest entry, beyond which something else is wrong;
            0 where what comes back is equal in all bits. Then it may be for any value; an inexact one is for floating-point
            values that are read by operations which keep a small error small, and by no others (`bounded`).
    """

    name: str
    takes: Callable[[Any], bool]
    encode: Callable[[Any], tuple[Any, ...]]
    decode: Callable[[tuple[Any, ...], Any], Any]
    error: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether what comes back is equal in all bits."""
        return self.error == 0.0


_REGISTRY: dict[str, Encoding] = {}


def register(encoding: Encoding) -> Encoding:
    """Make an encoding known by its name."""
    _REGISTRY[encoding.name] = encoding
    return encoding


def registered() -> list[str]:
    """The names of encodings."""
    return sorted(_REGISTRY)


def get_encoding(name: str) -> Encoding:
    """The encoding of a name that was checked."""
    return _REGISTRY[name]


def exact_encodings() -> list[str]:
    """The names of those that give back every bit."""
    return [name for name in registered() if _REGISTRY[name].is_exact]


def written_encodings() -> list[str]:
    """What may be written: the names of encodings, and words for those that are exact and for none."""
    return [AUTO, NONE, *registered()]


def read_encodings(texts: Sequence[str]) -> tuple[str, ...] | str:
    """Encodings as they are written, one or several in a text.

    Example:
        >>> read_encodings(["bits,int8"]), read_encodings(["auto"]), read_encodings(["none"])
        (('bits', 'int8'), 'auto', ())
    """
    names = tuple(name.strip() for text in texts for name in text.split(","))
    return names[0] if names == (AUTO,) else tuple(name for name in names if name != NONE)


def check_encodings(names: Any) -> tuple[str, ...] | str:
    """The names of encodings, one or several, each once; "auto" as it is. None and False are none.

    Raises:
        OptionError: there is none of this name.
    """
    if names is None or names is False:
        return ()
    if isinstance(names, str) and names == AUTO:
        return AUTO
    try:
        given = (names,) if isinstance(names, str) else tuple(names)
    except TypeError:
        raise OptionError(f"encodings={names!r} must be a name or several; there are {', '.join(registered())}") from None
    for name in given:
        if not isinstance(name, str) or name not in _REGISTRY:
            raise OptionError(f"the encoding {name!r} is unknown; there are {', '.join(registered())}; or 'auto', None")
    return tuple(dict.fromkeys(given))


def combinations(names: Sequence[str]) -> list[tuple[Encoding, ...]]:
    """Which of some encodings are used together: the exact ones, and with each inexact one these."""
    encodings = [_REGISTRY[name] for name in names]
    exact = tuple(e for e in encodings if e.is_exact)
    inexact = sorted((e for e in encodings if not e.is_exact), key=lambda e: e.error)
    return [*([exact] if exact else []), *((*exact, e) for e in inexact)]


def largest_error(names: Sequence[str]) -> float:
    """The largest `Encoding.error` of some encodings; 0 where all of them are exact."""
    return max((_REGISTRY[name].error for name in names), default=0.0)
