"""All that is known here of how versions of JAX differ, each entry with its reason.

Everything else in the package is written against these names; a test holds version checks, probing for JAX's
names and private imports out of all other modules.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import jaxlib
from jax import dtypes
from jax.experimental import hijax
from jax.extend.core import ClosedJaxpr, Primitive
from jax.extend.core import primitives as p

# What was measured with other versions is measured anew.
VERSIONS = (jax.__version__, jaxlib.__version__)

# Beside its domain the derivative of acosh is nan since 0.12, where it is written as a product of two roots.
ACOSH_BY_FACTORS = jax.__version_info__ >= (0, 12)

# The primitives that only call a program, and the parameter that holds it.  0.12 has one `eval_jaxpr` where 0.10
# has `closed_call` and `core_call`; `pjit` and `remat2` are the names of `jit` and `checkpoint` before 0.8;
# `remat_opt` is the forward of a custom_vjp with `optimize_remat=True`, which is for JAX's own remat.
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
    "remat_opt": "fwd_jaxpr",
}

# The casts from and to values that are not summed over an axis yet; 0.10 spells their names with the suffix of variables.
VARY_UNREDUCED_CAST = ("vary_unreduced_cast", "vary_unreduced_cast_p")
REDUCED_VARY_CAST = ("reduced_vary_cast", "reduced_vary_cast_p")


def is_closed(program: Any) -> bool:
    """Whether a program wraps another one, which has no constants: in 0.12 all programs are of one class."""
    return getattr(program, "jaxpr", program) is not program


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


# The primitive that all calls of `jax.experimental.hijax` are made by; what is called stands in its parameters.
HI_CALL = "call_hi_primitive"

# The base of what is called: 0.12 renamed it.
_HiPrimitive: Any = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive
# Rules that 0.12 derives from `jvp` and `lin` by JAX's own transposition.
_FROM_JVP, _FROM_LIN = (getattr(hijax, name, (None,))[0] for name in ("vjp_from_jvp", "vjp_from_lin"))
_LIN_FROM_JVP = getattr(hijax, "linearize_from_jvp", (None,))[0]


def called_program(primitive: Primitive, params: Mapping[str, Any]) -> Any:
    """The program that an operation does no more than call, or None.

    With `jax_remat3`, `jax.checkpoint` is not the primitive `checkpoint` but a call of hijax.
    """
    if primitive.name in CALLS:
        return params[CALLS[primitive.name]]
    return params["_prim"].jaxpr if _called_kind(primitive, params) == "RematTraced" else None


def as_plain(primitive: Primitive, params: Mapping[str, Any]) -> tuple[Primitive, Mapping[str, Any]]:
    """An operation in the form that it has without opt-in flags: with `jax_remat3`, `checkpoint_name` calls hijax."""
    if _called_kind(primitive, params) in ("CheckpointName", "CheckpointNameFwd"):
        return p.name_p, {"name": params["_prim"].name}
    return primitive, params


def _called_kind(primitive: Primitive, params: Mapping[str, Any]) -> str | None:
    """The name of the class of JAX's own that a call of hijax is of; no public name leads to these classes."""
    kind = type(params["_prim"]) if primitive.name == HI_CALL else None
    return kind.__name__ if kind is not None and kind.__module__.startswith("jax.") else None


class JvpRule(Protocol):
    """What a rule for tangents says, wherever it comes from."""

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
class HiCall:
    """A call of `jax.experimental.hijax`: of a user's, or what `jax_custom_vjp3` makes of a custom_vjp function.

    Attributes:
        called: what is called, in hijax's protocol.
        in_avals: the types of the operands.
    """

    called: Any
    in_avals: Sequence[Any]
    num_consts = 0
    rule_thunk = None
    symbolic_zeros = True

    @property
    def is_custom_vjp(self) -> bool:
        """Whether it is a custom_vjp function, to which no forward mode belongs."""
        called = self.called
        while type(called).__name__ == "VmapOf":  # 0.10: what `jax.vmap` makes of a call
            called = called.prim
        return type(called).__name__ == "CustomVJPTraced"

    @property
    def is_custom_jvp(self) -> bool:
        """Whether it is a custom_jvp function, whose `transpose` is JAX's own differentiation."""
        return type(self.called).__name__ == "CustomJVPTraced"

    @property
    def name(self) -> str:
        """Of the class that is called."""
        return type(self.called).__name__

    @property
    def closed_over(self) -> int:
        """How many operands, the first ones, a custom_vjp function closes over, of which its rule says nothing.

        0.12 makes operands of them, 0.10 refuses them.
        """
        named = type(self.called).__name__ == "CustomVJPTraced" and hasattr(self.called, "drop_fwd_consts")
        return len(jax.tree.leaves(self.called.in_avals[0])) if named else 0

    @property
    def pulls_back(self) -> bool:
        """Whether the call has a reverse rule of its own, not one that JAX derives from its forward mode."""
        return type(self.called).vjp_fwd not in (_HiPrimitive.vjp_fwd, _FROM_JVP, _FROM_LIN)

    @property
    def primal(self) -> ClosedJaxpr:
        """The function itself."""
        return jax.make_jaxpr(self._expand)(*map(_struct, self.in_avals))

    def forward(self, inputs: Sequence[Any], needs: Sequence[bool]) -> tuple[Sequence[Any], tuple[Any, ...], Sequence[bool]]:
        """The outputs, what `backward` takes, and which outputs have a derivative."""
        outputs, residuals, *rest = self.called.vjp_fwd(self._args(needs), *self._args(inputs))
        # 0.12 lets the forward return structured residuals besides, which go to the backward by themselves.
        structured = rest[1:2] if len(rest) > 1 and rest[1] is not None else []
        moving = rest[0] if rest else True
        flags = jax.tree.leaves(jax.tree.broadcast(moving, outputs))
        return jax.tree.leaves(outputs), (residuals, *structured), flags

    def backward(self, residuals: tuple[Any, ...], cotangents: Sequence[Any], needs: Sequence[bool]) -> Sequence[Any]:
        """A cotangent for each operand, None for zero, given those of the outputs, None for zero."""
        _, null = _accumulators()
        others = [null(a.to_ct_aval()) for a in self.called.in_avals_flat]
        # What it returns are logs, which `jax.grad` drops.
        return self._accumulated(
            lambda seeds, found: self.called.vjp_bwd(*residuals, seeds, *self._args(found)), others, cotangents, needs
        )

    def _accumulated(
        self, rule: Callable[..., Any], others: Sequence[Any], cotangents: Sequence[Any], needs: Sequence[bool]
    ) -> list[Any]:
        """What a rule adds up for the operands that are needed; it is given the others as they are."""
        value, _ = _accumulators()
        avals = [a.to_ct_aval() for a in self.called.in_avals_flat]
        found = [value(a) if n else x for a, x, n in zip(avals, others, needs, strict=True)]
        seeds = [_zero(a) if ct is None else ct for ct, a in zip(cotangents, self.called.out_avals_flat, strict=True)]
        rule(jax.tree.unflatten(self.called.out_tree, seeds), found)
        frozen = [x.freeze() if n else None for x, n in zip(found, needs, strict=True)]
        return [None if isinstance(ct, hijax.Zero) else ct for ct in frozen]

    @property
    def transposes(self) -> bool:
        """Whether it says itself how it is transposed where it is linear."""
        return type(self.called).transpose is not _HiPrimitive.transpose and not self.is_custom_jvp

    def transpose(self, inputs: Sequence[Any], cotangents: Sequence[Any], needs: Sequence[bool]) -> Sequence[Any]:
        """A cotangent for each operand that it is linear in, None for zero and for the others."""
        return self._accumulated(
            lambda seeds, found: self.called.transpose(seeds, *self._args(found)), inputs, cotangents, needs
        )

    def rule(self, absent: Sequence[bool]) -> tuple[ClosedJaxpr, Sequence[bool]]:
        """Its forward mode, of primals and of the tangents that are not absent, and which tangents come out zero."""
        zeros: list[bool] = []
        types = [_struct(a.to_tangent_aval()) for a, gone in zip(self.called.in_avals_flat, absent, strict=True) if not gone]

        def both(primals: Sequence[Any], present: Sequence[Any]) -> list[Any]:
            rest = iter(present)
            pairs = zip(self.called.in_avals_flat, absent, strict=True)
            outputs, tangents = self._pushed(primals, [_zero(a) if gone else next(rest) for a, gone in pairs])
            zeros[:] = [isinstance(t, hijax.Zero) for t in tangents]
            return [*outputs, *(t for t, z in zip(tangents, zeros, strict=True) if not z)]

        return jax.make_jaxpr(both)([*map(_struct, self.in_avals)], types), zeros

    def _pushed(self, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        kind, tree = type(self.called), self.called.out_tree
        args = self._args(primals)
        if kind.lin in (_HiPrimitive.lin, _LIN_FROM_JVP):
            outputs, moves = self.called.jvp(args, self._args(tangents))
        else:
            needs = [not isinstance(t, hijax.Zero) for t in tangents]
            outputs, residuals, *rest = self.called.lin(self._args(needs), *args)
            structured = rest[1:2] if len(rest) > 1 and rest[1] is not None else []
            moves = self.called.linearized(residuals, *structured, *self._args(tangents))
        return jax.tree.leaves(outputs), tree.flatten_up_to(moves)

    def _expand(self, *inputs: Any) -> list[Any]:
        return jax.tree.leaves(self.called.expand(*self._args(inputs)))

    def _args(self, leaves: Sequence[Any]) -> Any:
        return jax.tree.unflatten(self.called.in_tree, leaves)


def hi_call(params: Mapping[str, Any], in_avals: Sequence[Any]) -> HiCall:
    """The call by the parameters and operand types of a `call_hi_primitive`."""
    return HiCall(params["_prim"], in_avals)


def hi_programs(params: Mapping[str, Any]) -> list[Any]:
    """The programs inside what a `call_hi_primitive` calls, where it says them."""
    called = params.get("_prim")
    found = (getattr(called, "jaxpr", None), getattr(getattr(called, "traced", None), "jaxpr", None))
    return [program for program in found if program is not None]


def _struct(aval: Any) -> Any:
    kind = getattr(aval, "manual_axis_type", None)
    spread = {"manual_axis_type": kind, "sharding": aval.sharding} if kind else {}
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False), **spread)


def _zero(aval: Any) -> Any:
    return hijax.Zero(aval.to_tangent_aval())


def _accumulators() -> tuple[Any, Any]:
    """What a reverse rule of hijax adds cotangents to: where they are wanted, and where not.

    Published with 0.12; in 0.10 the protocol takes them, and no public name has them.
    """
    if hasattr(hijax, "ValAccum"):
        return getattr(hijax, "ValAccum"), getattr(hijax, "NullAccum")  # noqa: B009 (unknown to 0.10's types)
    from jax._src.interpreters import ad

    return ad.ValAccum, ad.NullAccum


def spmd_axis_names() -> frozenset[Any]:
    """The mesh axes along which a `jax.vmap` around this trace spreads its examples (`spmd_axis_name`).

    A `shard_map` inside may not mention them; no public name tells them.
    """
    from jax._src.core import get_axis_env

    return get_axis_env().spmd_axis_names
