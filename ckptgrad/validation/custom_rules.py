"""Whether a `jax.custom_vjp` or `jax.custom_jvp` rule is the derivative of its function.

JAX and ckptgrad take the user's word for it, so that both go wrong alike.  Here the rule's cotangents are compared with
the derivative of the function's own body.  A rule is often written because that derivative is not what one wants: it
overflows, or has a kink.  So the body is differentiated as it is and in double precision, at the values of the run and
at values nearby, and a rule is wrong only where it agrees with none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ckptgrad.compat import CUSTOM_JVP, CUSTOM_VJP
from ckptgrad.errors import CkptgradError
from ckptgrad.graph.graph import Graph, Operation
from ckptgrad.graph.source import SourceLine, is_user_file
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.work import inner_programs
from ckptgrad.validation.compare import differences, tolerance_of
from ckptgrad.validation.double_precision import by_differences, jittered, wide, wide_numpy, widened
from ckptgrad.validation.local_cotangents import Spot, pulled, with_zeros

CUSTOM_RULES = (CUSTOM_VJP, CUSTOM_JVP)


@dataclass(frozen=True)
class Apart:
    """How far a cotangent lies from the derivative, relative, and how far it may."""

    relative: float
    allowed: float

    @property
    def is_wrong(self) -> bool:
        return self.relative > self.allowed

    @property
    def excess(self) -> float:
        return self.relative / self.allowed if self.allowed else (np.inf if self.relative else 0.0)


def calls_custom_rule(op: Operation) -> bool:
    """Whether an operation is a function with a custom rule, or runs one inside."""

    def within(params: dict[str, Any]) -> bool:
        equations = [e for program in inner_programs(params) for e in program.eqns]
        return any(e.primitive.name in CUSTOM_RULES or within(e.params) for e in equations)

    return op.name in CUSTOM_RULES or within(op.params)


def function_of(op: Operation) -> tuple[str | None, SourceLine | None]:
    """The name of a function with a custom rule, and where it is defined, if JAX says and the file is a user's."""
    info = getattr(op.params["call_jaxpr"].jaxpr, "debug_info", None)
    name, _, place = (getattr(info, "func_src_info", None) or "").partition(" at ")
    file, _, line = place.rpartition(":")
    known = line.isdigit() and is_user_file(file)
    return name or None, SourceLine(file, int(line), name) if known else None


def judge(spot: Spot, cotangents: Sequence[Any], tolerance: float | None, rng: np.random.Generator) -> dict[int, Apart]:
    """How far a custom rule is from the derivative of its function, by position among the operation's inputs.

    Of all that it may be compared with, the nearest counts.  A position that nothing could be said of is missing.

    Args:
        spot: the call of the function.
        cotangents: of its outputs, None for zero.
        tolerance: overrides that of the dtypes.
        rng: where nearby values come from.
    """
    nearest: dict[int, Apart] = {}
    nearby = [jittered(x, rng) if i in spot.wanted else x for i, x in enumerate(spot.values)]
    for values in (spot.values, nearby):
        for found in _comparisons(spot, values, cotangents, tolerance, rng):
            for i, apart in found.items():
                if i not in nearest or apart.excess < nearest[i].excess:
                    nearest[i] = apart
            if len(nearest) == len(spot.wanted) and not any(a.is_wrong for a in nearest.values()):
                return nearest
    return nearest


def _comparisons(
    spot: Spot, values: Sequence[Any], cotangents: Sequence[Any], tolerance: float | None, rng: np.random.Generator
) -> Iterator[dict[int, Apart]]:
    """With the body's derivative as it is, then in double precision; where it has none, with differences."""
    body, wrt = from_jaxpr(spot.op.params["call_jaxpr"]), spot.wanted
    avals = [spot.op.inputs[i].aval for i in wrt]
    rule = with_zeros(pulled(spot.alone, [values[i] for i in spot.places], spot.wrt, cotangents), avals)
    try:
        derivative = pulled(body, values, wrt, cotangents)
    except CkptgradError:
        yield _by_differences(body, values, wrt, cotangents, rule, tolerance, rng)
        return
    yield _where_finite(rule, with_zeros(derivative, avals), wrt, tolerance)
    with jax.enable_x64(True):
        double = widened(body)
        if double is None:
            return
        derivative = pulled(double, [wide(x) for x in values], wrt, [wide(ct) for ct in cotangents])
        derivative = with_zeros(
            [None if d is None else jnp.asarray(d, a.dtype) for d, a in zip(derivative, avals, strict=True)], avals
        )
    yield _where_finite(rule, derivative, wrt, tolerance)


def _where_finite(
    found: Sequence[Any], wanted: Sequence[Any], wrt: Sequence[int], tolerance: float | None
) -> dict[int, Apart]:
    """Compared where the derivative is finite; inputs where it is nowhere are left out."""
    known = [np.isfinite(wide_numpy(w)) for w in wanted]
    pairs = [(np.where(k, f, 0), np.where(k, w, 0)) for k, f, w in zip(known, found, wanted, strict=True)]
    apart = differences([f for f, _ in pairs], [w for _, w in pairs], tolerance)
    return {
        i: Apart(d.relative, tolerance_of(w.dtype) if tolerance is None else tolerance)
        for i, d, k, (_, w) in zip(wrt, apart, known, pairs, strict=True)
        if k.any() or not k.size
    }


def _by_differences(
    body: Graph,
    values: Sequence[Any],
    wrt: Sequence[int],
    cotangents: Sequence[Any],
    rule: Sequence[Any],
    tolerance: float | None,
    rng: np.random.Generator,
) -> dict[int, Apart]:
    """A random direction for each input; in double precision where the function can be had in it."""
    with jax.enable_x64(True):
        double = widened(body)
        if double is not None:
            values, cotangents = [wide(x) for x in values], [wide(ct) for ct in cotangents]
            found = [by_differences(double, values, i, cotangents, r, rng) for i, r in zip(wrt, rule, strict=True)]
    if double is None:
        found = [by_differences(body, values, i, cotangents, r, rng) for i, r in zip(wrt, rule, strict=True)]
    return {
        i: Apart(apart[0], max(apart[1], tolerance_of(r.dtype) if tolerance is None else tolerance))
        for i, r, apart in zip(wrt, rule, found, strict=True)
        if apart
    }
