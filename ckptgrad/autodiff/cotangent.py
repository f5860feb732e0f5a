"""The entries that a rule returns, and the sum of those that reach one variable.

An entry is a cotangent, None for zero, a function of no arguments that computes one where it is needed, or a `Part`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax.numpy as jnp

from ckptgrad.graph.atoms import Array, Atom

Entry: TypeAlias = Any


@dataclass(frozen=True)
class Part:
    """A cotangent that is zero outside a part of the array.

    Attributes:
        zeros: the array of zeros.
        add: adds the part to a total, in place where nothing else needs the total.
    """

    zeros: Callable[[], Array]
    add: Callable[[Array], Array]


@dataclass(frozen=True)
class _Waiting:
    """Parts to which nothing else has been added yet."""

    parts: tuple[Part, ...]

    def added_to(self, total: Array) -> Array:
        for part in self.parts:
            total = part.add(total)
        return total


def computed(entry: Entry) -> Array | Part | None:
    """The cotangent of an entry; a `Part` is left as it is."""
    return entry() if callable(entry) else entry


def force(entry: Entry) -> Array | None:
    """The cotangent of an entry as an array; None for zero."""
    cotangent = computed(entry)
    return cotangent.add(cotangent.zeros()) if isinstance(cotangent, Part) else cotangent


def accumulate(table: dict[Any, Any], key: Atom, contribution: Array | Part) -> None:
    """Add a contribution to the gradient of a variable; parts of an array wait for a whole array to be added to."""
    present = table.get(key)
    if present is None:
        table[key] = _Waiting((contribution,)) if isinstance(contribution, Part) else contribution
    elif isinstance(present, _Waiting):
        both = isinstance(contribution, Part)
        table[key] = _Waiting((*present.parts, contribution)) if both else present.added_to(contribution)
    else:
        table[key] = contribution.add(present) if isinstance(contribution, Part) else jnp.add(present, contribution)


def whole(gradient: Any) -> Array | None:
    """A gradient of the table as an array; None where nothing flowed."""
    return gradient.added_to(gradient.parts[0].zeros()) if isinstance(gradient, _Waiting) else gradient
