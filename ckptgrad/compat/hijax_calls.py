"""Calls of `jax.experimental.hijax`, whose protocol 0.12 changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import hijax
from jax.extend.core import ClosedJaxpr

# The base of what is called: 0.12 renamed it.
_HiPrimitive: Any = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive
# Rules that 0.12 derives from `jvp` and `lin` by JAX's own transposition.
_FROM_JVP, _FROM_LIN = (getattr(hijax, name, (None,))[0] for name in ("vjp_from_jvp", "vjp_from_lin"))
_LIN_FROM_JVP = getattr(hijax, "linearize_from_jvp", (None,))[0]


@dataclass(frozen=True)
class HiCall:
    """A call of `jax.experimental.hijax`: a user's own, or what `jax_custom_vjp3` makes of a custom_vjp function.

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
        """Whether it is a custom_vjp function, which has no forward mode."""
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
        """The name of the class that is called."""
        return type(self.called).__name__

    @property
    def closed_over(self) -> int:
        """How many operands, the first ones, a custom_vjp function closes over; its rule says nothing about them.

        0.12 makes them operands, 0.10 refuses them.
        """
        named = type(self.called).__name__ == "CustomVJPTraced" and hasattr(self.called, "drop_fwd_consts")
        return len(jax.tree.leaves(self.called.in_avals[0])) if named else 0

    @property
    def pulls_back(self) -> bool:
        """Whether the call has a reverse rule of its own rather than one that JAX derives from its forward mode."""
        return type(self.called).vjp_fwd not in (_HiPrimitive.vjp_fwd, _FROM_JVP, _FROM_LIN)

    @property
    def primal(self) -> ClosedJaxpr:
        """The function itself."""
        return jax.make_jaxpr(self._expand)(*map(_struct, self.in_avals))

    def forward(self, inputs: Sequence[Any], needs: Sequence[bool]) -> tuple[Sequence[Any], tuple[Any, ...], Sequence[bool]]:
        """The outputs, what `backward` takes, and which outputs have a derivative."""
        outputs, residuals, *rest = self.called.vjp_fwd(self._args(needs), *self._args(inputs))
        # 0.12 lets the forward return structured residuals as well, which the backward takes separately.
        structured = rest[1:2] if len(rest) > 1 and rest[1] is not None else []
        moving = rest[0] if rest else True
        flags = jax.tree.leaves(jax.tree.broadcast(moving, outputs))
        return jax.tree.leaves(outputs), (residuals, *structured), flags

    def backward(self, residuals: tuple[Any, ...], cotangents: Sequence[Any], needs: Sequence[bool]) -> Sequence[Any]:
        """A cotangent for each operand, None for zero, given those of the outputs, None for zero."""
        _, null = _accumulators()
        others = [null(a.to_ct_aval()) for a in self.called.in_avals_flat]
        # It returns logs, which `jax.grad` drops.
        return self._accumulated(
            lambda seeds, sums: self.called.vjp_bwd(*residuals, seeds, *self._args(sums)), others, cotangents, needs
        )

    def _accumulated(
        self, rule: Callable[..., Any], others: Sequence[Any], cotangents: Sequence[Any], needs: Sequence[bool]
    ) -> list[Any]:
        """What a rule adds up for the needed operands; it is given the others as they are."""
        value, _ = _accumulators()
        avals = [a.to_ct_aval() for a in self.called.in_avals_flat]
        sums = [value(a) if n else x for a, x, n in zip(avals, others, needs, strict=True)]
        seeds = [_zero(a) if ct is None else ct for ct, a in zip(cotangents, self.called.out_avals_flat, strict=True)]
        rule(jax.tree.unflatten(self.called.out_tree, seeds), sums)
        frozen = [x.freeze() if n else None for x, n in zip(sums, needs, strict=True)]
        return [None if isinstance(ct, hijax.Zero) else ct for ct in frozen]

    @property
    def transposes(self) -> bool:
        """Whether it defines its own transpose where it is linear."""
        return type(self.called).transpose is not _HiPrimitive.transpose and not self.is_custom_jvp

    def transpose(self, inputs: Sequence[Any], cotangents: Sequence[Any], needs: Sequence[bool]) -> Sequence[Any]:
        """A cotangent for each operand that it is linear in, None for zero and for the others."""
        return self._accumulated(
            lambda seeds, sums: self.called.transpose(seeds, *self._args(sums)), inputs, cotangents, needs
        )

    def rule(self, absent: Sequence[bool]) -> tuple[ClosedJaxpr, Sequence[bool]]:
        """Its forward mode, of primals and of the tangents that are not absent, and which resulting tangents are zero."""
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
    """The programs inside what a `call_hi_primitive` calls, where it shows them."""
    called = params.get("_prim")
    programs = (getattr(called, "jaxpr", None), getattr(getattr(called, "traced", None), "jaxpr", None))
    return [program for program in programs if program is not None]


def _struct(aval: Any) -> Any:
    kind = getattr(aval, "manual_axis_type", None)
    spread = {"manual_axis_type": kind, "sharding": aval.sharding} if kind else {}
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False), **spread)


def _zero(aval: Any) -> Any:
    return hijax.Zero(aval.to_tangent_aval())


def _accumulators() -> tuple[Any, Any]:
    """What a reverse rule of hijax adds cotangents to: the class for operands that need one, and for the others.

    Published with 0.12; the protocol of 0.10 takes them, without a public name for them.
    """
    if hasattr(hijax, "ValAccum"):
        return getattr(hijax, "ValAccum"), getattr(hijax, "NullAccum")  # noqa: B009 (unknown to 0.10's types)
    from jax._src.interpreters import ad

    return ad.ValAccum, ad.NullAccum
