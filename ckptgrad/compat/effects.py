"""Kinds of side effects, by the names of their classes: JAX publishes none of them."""

from __future__ import annotations

from collections.abc import Iterable


def names_axis(effect: object) -> bool:
    """Whether an effect only says that a collective names an axis; such an operation may be repeated."""
    return type(effect).__name__ == "NamedAxisEffect"


def is_ordered(effect: object) -> bool:
    """Whether an effect must happen in the order of the program, like that of `jax.debug.print(..., ordered=True)`."""
    return "ordered" in type(effect).__name__.lower()


def holds_references(effects: Iterable[object]) -> bool:
    """Whether a program with these effects has mutable references inside that it is not given."""
    return any(type(effect).__name__ == "InternalMutableArrayEffect" for effect in effects)
