"""All that is known here of how versions of JAX differ, each entry with its reason.

Everything else in the package is written against these names; a test holds version checks, probing for JAX's
names and private imports out of all other modules.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import dtypes
from jax.extend.core import ClosedJaxpr

# The primitives that only call a program, and the parameter that holds it.  0.12 has one `eval_jaxpr` where 0.10
# has `closed_call` and `core_call`; `pjit` and `remat2` are the names of `jit` and `checkpoint` before 0.8.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr",
    "composite": "call_jaxpr" if jax.__version_info__ >= (0, 12) else "jaxpr",
    "xla_metadata_call": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}

# The casts from and to values that are not summed over an axis yet; 0.10 spells their names with the suffix of variables.
VARY_UNREDUCED_CAST = ("vary_unreduced_cast", "vary_unreduced_cast_p")
REDUCED_VARY_CAST = ("reduced_vary_cast", "reduced_vary_cast_p")


class ScanCounts(NamedTuple):
    """How many of a scan's operands are constants and carried values; the others are stacked."""

    consts: int
    carry: int


def scan_counts(params: Mapping[str, Any]) -> ScanCounts:
    """How the operands of a `scan` are divided.

    0.12 says it by a tree of the operands, `ft_in` (`ft_out` of the results), where 0.10 has the two numbers.
    """
    if "num_consts" in params:
        return ScanCounts(params["num_consts"], params["num_carry"])
    consts, carry, _ = params["ft_in"].unpack()
    return ScanCounts(len(consts), len(carry))


@dataclass(frozen=True)
class CustomVjpCall:
    """The parts of a call of a `jax.custom_vjp` function.

    Attributes:
        num_consts: how many operands, the first ones, are captured values, which the rule does not see.
        primal: the function itself, of all operands.
        forward_thunk: `forward`, as JAX wraps it.
        backward_thunk: `backward`, as JAX wraps it.
        trees: () -> the trees of output and residuals, and for each residual the operand that it is, or None; known
            after `forward`.
        symbolic_zeros: whether the rule is told which cotangents are zero.
    """

    num_consts: int
    primal: ClosedJaxpr
    forward_thunk: Any
    backward_thunk: Any
    trees: Callable[[], tuple[Any, Any, Sequence[int | None]]]
    symbolic_zeros: bool

    def forward(self, needs: Sequence[bool]) -> ClosedJaxpr:
        """The user's forward, of the operands behind the captured ones: residuals that are no operand, then outputs."""
        return ClosedJaxpr(*self.forward_thunk.call_wrapped(*needs))

    def forwarded(self) -> Sequence[int | None]:
        """For each residual the operand that it is, or None if `forward` computes it."""
        return self.trees()[2]

    def backward(self, residuals: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The user's backward: cotangents of the operands behind the captured ones, None where they are zero.

        0.12 gives a pair of these and of what the backward logs, which is dropped, as `jax.grad` does.  Zeros are objects
        of JAX's that no public name tells from arrays; numbers are left as the user's Python gave them.
        """
        found = self.backward_thunk.call_wrapped(*residuals, *cotangents)
        is_pair = len(found) == 2 and isinstance(found[0], (list, tuple))
        pairs = zip(found[0] if is_pair else found, self.primal.in_avals[self.num_consts :], strict=True)
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
        num_consts: how many operands, the first ones, are captured values, which the rule does not see.
        primal: the function itself, of all operands.
        rule_thunk: `rule`, as JAX wraps it.
        symbolic_zeros: whether the rule is told which tangents are zero.
    """

    num_consts: int
    primal: ClosedJaxpr
    rule_thunk: Any
    symbolic_zeros: bool

    def rule(self, absent: Sequence[bool]) -> tuple[ClosedJaxpr, Sequence[bool]]:
        """The user's rule, of primals and of the tangents that are not absent, and which tangents come out zero."""
        jaxpr, captured, zeros = self.rule_thunk.call_wrapped(*absent)
        return ClosedJaxpr(jaxpr, captured), zeros


def custom_jvp_call(params: Mapping[str, Any]) -> CustomJvpCall:
    """The parts of a `custom_jvp_call` by its parameters."""
    return CustomJvpCall(params["num_consts"], params["call_jaxpr"], params["jvp_jaxpr_fun"], params["symbolic_zeros"])


def errors_taken(rule: Any) -> int:
    """How many leaves of errors stand before the arguments of a custom function.

    Checkify wraps the rule in a function that remembers the number, once for each time that it is applied; no public
    name tells it, in any version.
    """
    count, waiting, seen = 0, [rule], set()
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
