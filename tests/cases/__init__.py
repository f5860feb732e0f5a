"""Tables of test cases: one row buys all the tests of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

Domain = tuple[float, float]
SPECIAL_VALUES = (0.0, -0.0, 1.0, float("inf"), float("-inf"), float("nan"))


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        name: unique.
        fun: of arrays, to an array or a tuple of arrays.
        args: shapes or arrays.
        primitives: those of `fun`, or of its gradient, that the row covers.
        domain: the interval of the random arguments, one for all or one an argument.
        special: values tried in all combinations of the arguments (elementwise functions).
        order: 2 where the second derivative is compared too.
        bfloat16: whether `fun` works in bfloat16.
        complex: whether the arguments are complex.
        exact: whether float32 gradients equal JAX's bit for bit.
        in_jax: whether JAX can differentiate `fun` by reverse mode.
        check: whether finite differences apply.
        slow: whether compiling takes long.
        batches: whether `jax.vmap` of `fun` works.
    """

    name: str
    fun: Callable
    args: Sequence[Any]
    primitives: Sequence[str]
    domain: Domain | Sequence[Domain] = (-1.7, 1.7)
    special: Sequence[float] = ()
    order: int = 2
    bfloat16: bool = True
    complex: bool = False
    exact: bool = True
    in_jax: bool = True
    check: bool = True
    slow: bool = False
    batches: bool = True

    def __str__(self) -> str:
        return self.name


# JAX 0.12 writes some derivatives, and contracts some products, in another order than 0.10 and we do: a rounding apart.
ROUNDED_AS_WE_DO = jax.__version_info__ < (0, 12)


def unary(name: str, fun: Callable, special: Sequence[float] = SPECIAL_VALUES, **kw: Any) -> Case:
    return Case(name, fun, [(3, 4)], [name], special=special, **kw)


def binary(name: str, fun: Callable, **kw: Any) -> Case:
    kw = {"special": (*SPECIAL_VALUES, -2)} | kw
    return Case(name, fun, [(3, 4), (3, 4)], [name], **kw)


def complex_(case: Case, **kw: Any) -> Case:
    fields = {k: getattr(case, k) for k in ("fun", "args", "primitives", "domain")}
    return Case(f"complex {case.name}", **(fields | {"complex": True, "bfloat16": False} | kw))
