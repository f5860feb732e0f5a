"""The values of a graph: variables, and literal constants among an operation's inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

# What operations compute with: an array or tracer of JAX's, an array of NumPy's, or a Python number.
Array: TypeAlias = Any
# JAX's abstract value; no public class has what all of them have.
Aval: TypeAlias = Any

# `type`, which a checker does not know to return a class for a value that may be anything.
type_of: Callable[[Any], type[Any]] = type


class Variable:
    """A value of the graph: an array with a shape and a dtype, not yet a number.

    Attributes:
        aval: JAX's abstract value (shape, dtype, weak type).
        sharding: how it lies over several devices, where that is known; None: whole on the one that holds it.
        loose: whether devices may hold less of it than `sharding` says, which cannot say all that the partitioner does.
        elements: the number of elements that it has memory for, where that is known to be padded; None: for its own.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> (x,) = cg.trace(jnp.sin, jnp.ones((2, 3))).inputs
        >>> x, x.nbytes
        (Variable(float32[2,3]), 24)
    """

    __slots__ = ("aval", "elements", "loose", "sharding")

    def __init__(self, aval: Aval, sharding: NamedSharding | None = None) -> None:
        self.aval = aval
        self.sharding = sharding
        self.loose = False
        self.elements: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes, on all devices together (0 for values that are not arrays, such as tokens)."""
        return aval_bytes(self.aval)

    def __repr__(self) -> str:
        return f"Variable({self.aval.str_short()})"


class Constant:
    """A literal scalar written into an operation's inputs."""

    __slots__ = ("aval", "value")
    sharding = None
    loose = False
    elements = None

    def __init__(self, value: Any, aval: Aval) -> None:
        self.value = value
        self.aval = aval

    def __repr__(self) -> str:
        return f"Constant({self.value})"


Atom = Variable | Constant


def aval_bytes(aval: Aval) -> int:
    """Bytes of an abstract value; key arrays count their underlying integers, numbers of less than a byte are packed."""
    dtype = getattr(aval, "dtype", None)
    return 0 if dtype is None else -(-math.prod(aval.shape) * _bits(dtype) // 8)


def is_in_host(aval: Aval) -> bool:
    """Whether a value is in the host's memory by its type, rather than in the device's."""
    return getattr(aval, "memory_space", None) is jax.memory.Space.Host


def device_bytes(atom: Atom, padded: bool = True) -> int:
    """Bytes of a value in one device's memory, that of the fullest device where the others hold less.

    Args:
        atom: the value.
        padded: whether elements count that are there to fill tiles.
    """
    if is_in_host(atom.aval):
        return 0
    if atom.sharding is None:
        if padded and atom.elements is not None:
            return -(-atom.elements * _bits(atom.aval.dtype) // 8)
        return aval_bytes(atom.aval)
    parts = parts_of(atom.sharding, len(atom.aval.shape))
    return -(-math.prod(-(-n // k) for n, k in zip(atom.aval.shape, parts, strict=True)) * _bits(atom.aval.dtype) // 8)


@cache
def parts_of(sharding: NamedSharding, ndim: int) -> tuple[int, ...]:
    """For each axis of an array the number of parts in which a sharding cuts it."""
    sizes, spec = dict(sharding.mesh.shape), [*sharding.spec, *[None] * ndim]
    names = [(part,) if isinstance(part, str) else part or () for part in spec[:ndim]]
    return tuple(math.prod(sizes[name] for name in axes) for axes in names)


@cache
def _bits(dtype: Any) -> int:
    """Bits of one element."""
    size: int = getattr(dtype, "itemsize", 8)
    if size != 1 or dtype.kind in "biufO":
        return 8 * size
    limits: Any = jnp.iinfo if jnp.issubdtype(dtype, np.integer) else jnp.finfo
    return limits(dtype).bits


def variables_of(atoms: Iterable[Atom]) -> list[Variable]:
    """The atoms that are variables, in order."""
    return [a for a in atoms if isinstance(a, Variable)]
