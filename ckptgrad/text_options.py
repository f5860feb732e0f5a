"""Options as text: how the command line and the magics of notebooks offer and read them.

The metadata of each field of `ckptgrad.request.Request` says what the option asks for, and what it may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import Field, dataclass
from typing import Any

from ckptgrad.errors import ArgnumsError

_KEY = "text"


@dataclass(frozen=True)
class Text:
    """How an option is written as text.

    Attributes:
        asks_for: what it asks for, as a sentence without its full stop.
        choices: lists the texts that it may be; None where they cannot be listed.
        read: from the text to the value, or from a list of texts if the option may be repeated.
        repeats: whether it may.
    """

    asks_for: str
    choices: Callable[[], Iterable[str]] | None = None
    read: Callable[[Any], Any] = str
    repeats: bool = False

    @property
    def metadata(self) -> dict[str, Text]:
        """For the field of a dataclass."""
        return {_KEY: self}


@dataclass(frozen=True)
class TextOption:
    """An option that can be written as text.

    Attributes:
        name: of the field, and of the parameter of a door.
        default: its value where it is not given.
        text: how it is written.
    """

    name: str
    default: Any
    text: Text

    @classmethod
    def of(cls, field: Field[Any]) -> TextOption | None:
        """The option of a field; None if it cannot be written as text."""
        text = field.metadata.get(_KEY)
        return None if text is None else cls(field.name, field.default, text)

    @property
    def typed(self) -> str:
        """As it is typed: `--has-aux`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def help(self) -> str:
        """What it asks for, and what it may be."""
        choices = "" if self.text.choices is None else f": {', '.join(self.text.choices())}"
        return f"{self.text.asks_for}{choices}."

    @property
    def is_flag(self) -> bool:
        """Whether it is either given or not, without a value."""
        return isinstance(self.default, bool)

    def value(self, given: Any) -> Any:
        """What a door takes, where the option is given as a text, as texts if it repeats, or as a bool if it is a flag."""
        return given if self.is_flag else self.text.read(given)


def read_count(text: str) -> int | str:
    """A number, or a word that stands for one.

    Example:
        >>> read_count("8"), read_count("auto")
        (8, 'auto')
    """
    return int(text) if text.isdigit() else text


def read_argnums(texts: Sequence[str]) -> int | tuple[int, ...]:
    """Positions as `value_and_grad` takes them: one number alone means one gradient, not a tuple.

    Example:
        >>> read_argnums(["1"]), read_argnums(["0", "1"]), read_argnums(["0,1"])
        (1, (0, 1), (0, 1))
    """
    written = ",".join(texts)
    try:
        numbers = tuple(map(int, written.split(",")))
    except ValueError:
        raise ArgnumsError(f"--argnums {written}: write a number, or several separated by commas") from None
    return numbers if "," in written else numbers[0]
