"""`ckptgrad.eqx`: gradients of functions of Equinox modules, within a memory budget.

An Equinox module is a pytree whose leaves are arrays and others (activation functions, flags).  `filter_value_and_grad` and
`filter_grad` differentiate the floating-point arrays of the first argument, as Equinox's functions of the same names do.

Example:
    >>> import equinox as eqx, jax, jax.numpy as jnp, ckptgrad as cg
    >>> model = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
    >>> loss = lambda model, x: jnp.sum(jax.vmap(model)(x))
    >>> gradient = cg.eqx.filter_grad(loss, budget="1MiB")(model, jnp.ones((3, 2)))
    >>> gradient.layers[-1].bias.tolist(), gradient.activation is None
    ([3.0], True)
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp

from ckptgrad.doors.calling import check_function
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.errors import ArgnumsError, MissingExtraError
from ckptgrad.execution.certified import Certified
from ckptgrad.graph.naming import standing_for, title
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan


def filter_value_and_grad(fun: Callable | None = None, *, has_aux: bool = False, **options: Any) -> Any:
    """A function that evaluates `fun` and its gradient within a memory budget.

    A drop-in for `equinox.filter_value_and_grad`, inside and outside `eqx.filter_jit`.

    Args:
        fun: a function that returns a scalar, or (scalar, aux) with `has_aux`; left out where this is a decorator.
        has_aux: whether `fun` returns a pair whose second entry is passed through, as `eqx.nn.State` is.
        **options: `budget` and the other keyword options of `ckptgrad.value_and_grad`.

    Returns:
        A function with the arguments of `fun` that returns (value, gradient), or ((value, aux), gradient). The gradient is
        structured as the first argument, None in place of what is no floating-point array. It also has `.plan(*args)` and
        `.compile(*args)`.

    Raises:
        MissingExtraError: Equinox is not installed.
        Others as `ckptgrad.value_and_grad`.
    """
    if fun is None:
        return functools.partial(filter_value_and_grad, has_aux=has_aux, **options)
    return EqxGradient(fun, Request(has_aux=has_aux, **options), with_value=True)


def filter_grad(fun: Callable | None = None, *, has_aux: bool = False, **options: Any) -> Any:
    """A function that evaluates the gradient of `fun`; see `filter_value_and_grad`.

    Returns:
        A function that returns the gradient, or (gradient, aux) with `has_aux`.
    """
    if fun is None:
        return functools.partial(filter_grad, has_aux=has_aux, **options)
    return EqxGradient(fun, Request(has_aux=has_aux, **options), with_value=False)


class EqxGradient:
    """A function of Equinox modules that returns a value and its gradient under a memory budget.

    Made by `ckptgrad.eqx.filter_value_and_grad` and `ckptgrad.eqx.filter_grad`; call it like Equinox's.
    """

    def __init__(self, fun: Callable, request: Request, *, with_value: bool) -> None:
        self._eqx = _equinox()
        check_function(fun)
        self.fun = fun

        def function(parts: Any, *args: Any, **kwargs: Any) -> Any:
            return fun(self._eqx.combine(parts, args[0]), *args[1:], **kwargs)

        stand_in = standing_for(fun, function, _parameters(fun))
        self._door = GradientFunction(stand_in, request, with_value=with_value)
        functools.update_wrapper(self, fun, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._door(*self.split(args), **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A function in a class is a method."""
        return self if instance is None else types.MethodType(self, instance)

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """What will be stored and recomputed for these arguments (arrays or ShapeDtypeStructs)."""
        return self._door.plan(*self.split(args), **kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> Certified:
        """Compile for these arguments and certify the peak, as `GradientFunction.compile`."""
        certified = self._door.compile(*self.split(args), **kwargs)
        return _CertifiedEqx(**{f.name: getattr(certified, f.name) for f in fields(Certified)}, door=self)

    def split(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, the first one as what is differentiated of it, and the rest of it.

        Raises:
            ArgnumsError: there is none.
        """
        if not args:
            raise ArgnumsError(f"{title(self.fun)} is differentiated in its first positional argument, and is given none")
        return *self._eqx.partition(args[0], self._is_differentiated), *args[1:]

    def _is_differentiated(self, leaf: Any) -> bool:
        return self._eqx.is_inexact_array(leaf) or _is_struct(leaf)


@dataclass(frozen=True, repr=False)
class _CertifiedEqx(Certified):
    """A certified gradient that is called with modules."""

    door: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*self.door.split(args), **kwargs)


def _parameters(fun: Callable) -> list[str] | None:
    """The names of the parameters, the first one as two; None where they are not known."""
    try:
        parameters = [*inspect.signature(fun).parameters.values()]
    except (TypeError, ValueError):
        return None
    if not parameters or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return None
    first, *others = (p.name for p in parameters)
    return [first, f"{first}_rest", *others]


def _is_struct(leaf: Any) -> bool:
    """Whether a leaf stands for a floating-point array."""
    return isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _equinox() -> Any:
    """Equinox.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import equinox
    except ImportError:
        raise MissingExtraError("ckptgrad.eqx", "Equinox", "equinox") from None
    return equinox
