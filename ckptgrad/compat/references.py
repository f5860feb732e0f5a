"""What a view of a mutable reference is: the classes of indices and reshapes are private to JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def reshape_of(view: Any) -> tuple[int, ...] | None:
    """The shape to which a view reshapes; None if it is not a reshape."""
    return tuple(view.shape) if "Reshape" in type(view).__name__ else None


def indices_of(view: Any) -> Sequence[Any] | None:
    """The index of each axis of a view that indexes; None if it is of another kind.

    An entry is a slice (`start`, `size`, `stride`), an integer or an array of integers.
    """
    return getattr(view, "indices", None)


def has_no_derivative(aval: Any) -> bool:
    """Whether a reference is of a kind whose values have no derivative, by the name of the kind."""
    return str(getattr(aval, "kind", None) or "").startswith("no_grad")
