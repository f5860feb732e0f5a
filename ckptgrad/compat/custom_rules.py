"""The parts of calls of `jax.custom_jvp` and `jax.custom_vjp` functions."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax.numpy as jnp
from jax import dtypes
from jax.extend.core import ClosedJaxpr

CUSTOM_JVP, CUSTOM_VJP = "custom_jvp_call", "custom_vjp_call"


class JvpRule(Protocol):
    """A rule for tangents, wherever it comes from."""

    @property
    def num_consts(self) -> int: ...
    @property
    def primal(self) -> ClosedJaxpr: ...
    @property
    def rule_thunk(self) -> Any: ...
    @property
    def symbolic_zeros(self) -> bool: ...
    def rule(self, absent: Sequence[bool]) -> tuple[ClosedJaxpr, Sequence[bool]]: ...


@dataclass(frozen=True)
class CustomVjpCall:
    """The parts of a call of a `jax.custom_vjp` function.

    Attributes:
        PARAMETERS: the parameters of the operation that make up the rule.
        num_consts: how many operands, the first ones, are captured values, which the rule does not see.
        primal: the function itself, of all operands.
        forward_thunk: `forward`, as JAX wraps it.
        backward_thunk: `backward`, as JAX wraps it.
        trees: () -> the trees of output and residuals, and for each residual the operand that it is, or None; known
            after `forward`.
        symbolic_zeros: whether the rule is told which cotangents are zero.
    """

    PARAMETERS: ClassVar[frozenset[str]] = frozenset({"fwd_jaxpr_thunk", "bwd", "out_trees"})

    num_consts: int
    primal: ClosedJaxpr
    forward_thunk: Any
    backward_thunk: Any
    trees: Callable[[], tuple[Any, Any, Sequence[int | None]]]
    symbolic_zeros: bool

    @property
    def wrapped(self) -> tuple[Any, ...]:
        """The user's functions, as JAX wraps them."""
        return self.forward_thunk, self.backward_thunk

    def forward(self, needs: Sequence[bool]) -> ClosedJaxpr:
        """The user's forward, of the operands after the captured ones: residuals that are not operands, then outputs."""
        return ClosedJaxpr(*self.forward_thunk.call_wrapped(*needs))

    def forwarded(self) -> Sequence[int | None]:
        """For each residual the operand that it is, or None if `forward` computes it."""
        return self.trees()[2]

    def backward(self, residuals: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The user's backward: cotangents of the operands after the captured ones, None where they are zero.

        0.12 returns a pair of these and of what the backward logs, which is dropped, as `jax.grad` does.  Zeros are objects
        of JAX's that no public name tells from arrays; numbers are left as the user's Python returned them.
        """
        returned = self.backward_thunk.call_wrapped(*residuals, *cotangents)
        is_pair = len(returned) == 2 and isinstance(returned[0], (list, tuple))
        pairs = zip(returned[0] if is_pair else returned, self.primal.in_avals[self.num_consts :], strict=True)
        return [_cotangent(ct, aval) for ct, aval in pairs]


def _cotangent(ct: Any, aval: Any) -> Any:
    if isinstance(ct, numbers.Number):
        return jnp.asarray(ct, aval.dtype) if dtypes.issubdtype(aval.dtype, jnp.inexact) else None
    dtype = getattr(ct, "dtype", None)
    return ct if dtype is not None and dtype != dtypes.float0 and hasattr(ct, "__add__") else None


def custom_vjp_call(params: Mapping[str, Any]) -> CustomVjpCall:
    """The parts of a `custom_vjp_call` by its parameters."""
    return CustomVjpCall(
        params["num_consts"],
        params["call_jaxpr"],
        params["fwd_jaxpr_thunk"],
        params["bwd"],
        params["out_trees"],
        params["symbolic_zeros"],
    )


@dataclass(frozen=True)
class CustomJvpCall:
    """The parts of a call of a `jax.custom_jvp` function.

    Attributes:
        PARAMETERS: the parameters of the operation that make up the rule.
        num_consts: how many operands, the first ones, are captured values, which the rule does not see.
        primal: the function itself, of all operands.
        rule_thunk: `rule`, as JAX wraps it.
        symbolic_zeros: whether the rule is told which tangents are zero.
    """

    PARAMETERS: ClassVar[frozenset[str]] = frozenset({"jvp_jaxpr_fun"})

    num_consts: int
    primal: ClosedJaxpr
    rule_thunk: Any
    symbolic_zeros: bool

    @property
    def wrapped(self) -> tuple[Any, ...]:
        """The user's function, as JAX wraps it."""
        return (self.rule_thunk,)

    def rule(self, absent: Sequence[bool]) -> tuple[ClosedJaxpr, Sequence[bool]]:
        """The user's rule, of primals and of the tangents that are not absent, and which resulting tangents are zero."""
        jaxpr, captured, zeros = self.rule_thunk.call_wrapped(*absent)
        return ClosedJaxpr(jaxpr, captured), zeros


def custom_jvp_call(params: Mapping[str, Any]) -> CustomJvpCall:
    """The parts of a `custom_jvp_call` by its parameters."""
    return CustomJvpCall(params["num_consts"], params["call_jaxpr"], params["jvp_jaxpr_fun"], params["symbolic_zeros"])


def anchor_of(call: CustomJvpCall | CustomVjpCall) -> Any:
    """An object that belongs to this call alone: the innermost function that JAX wraps, where it says which."""
    return getattr(call.wrapped[0], "f", call.wrapped[0])


def errors_taken(rule: Any) -> int:
    """The number of leaves of errors that stand before the arguments of a custom function.

    Checkify wraps the rule in a function that remembers the number, once each time it is applied; no public name gives
    it, in any version.
    """
    count, waiting, seen = 0, [rule], set[int]()
    while waiting:
        function = getattr(waiting[0], "f", waiting[0])
        del waiting[0]
        code = getattr(function, "__code__", None)
        if code is None or id(function) in seen or not str(function.__module__).startswith("jax."):
            continue
        seen.add(id(function))
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        if function.__module__.endswith(".checkify"):
            count += cells["num_errs"].cell_contents
        waiting += [cells[name].cell_contents for name in ("fn", "jvp", "jvp_jaxpr_fun", "bwd") if name in cells]
    return count
