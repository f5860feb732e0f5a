"""Whether a `jax.custom_vjp` or `jax.custom_jvp` rule is the derivative of its function.

JAX and ckptgrad both take the user's word for it, so that both go wrong in the same way. Here the rule's cotangents are
compared with the derivative of the function's own body. A rule is often written because that derivative is not wanted: it
overflows, or the function has a kink. So the body is differentiated as it is and in double precision, at the values of
the run and at values nearby, and a rule counts as wrong only if it agrees with none of these derivatives.
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
from ckptgrad.rules.subgraphs import calls_any
from ckptgrad.validation.compare import differences, tolerance_of
from ckptgrad.validation.double_precision import as_double, as_numpy_double, difference_error, in_double_precision, perturbed
from ckptgrad.validation.local_cotangents import Spot, local_cotangents, with_zeros

CUSTOM_RULES = (CUSTOM_VJP, CUSTOM_JVP)


@dataclass(frozen=True)
class Deviation:
    """The relative difference between a cotangent and the derivative, and the largest one allowed."""

    relative: float
    allowed: float

    @property
    def is_wrong(self) -> bool:
        """Whether the difference is larger than allowed."""
        return self.relative > self.allowed

    @property
    def excess(self) -> float:
        """The difference as a multiple of what is allowed."""
        return self.relative / self.allowed if self.allowed else (np.inf if self.relative else 0.0)


def has_rule_to_check(op: Operation) -> bool:
    """Whether an operation calls a function with a custom rule that is compared, directly or in a program that it runs."""
    return calls_any((op,), CUSTOM_RULES)


def function_of(op: Operation) -> tuple[str | None, SourceLine | None]:
    """The name of a function with a custom rule, and its definition if JAX knows it and the file is the user's."""
    info = getattr(op.params["call_jaxpr"].jaxpr, "debug_info", None)
    name, _, place = (getattr(info, "func_src_info", None) or "").partition(" at ")
    file, _, line = place.rpartition(":")
    known = line.isdigit() and is_user_file(file)
    return name or None, SourceLine(file, int(line), name) if known else None


def deviations(
    spot: Spot, cotangents: Sequence[Any], tolerance: float | None, rng: np.random.Generator
) -> dict[int, Deviation]:
    """How far a custom rule is from the derivative of its function, by position among the operation's inputs.

    Of all derivatives that it is compared with, the nearest counts. Positions that could not be compared are absent.

    Args:
        spot: the call of the function.
        cotangents: one per output, None for zero.
        tolerance: overrides the tolerances of the dtypes.
        rng: draws nearby values.
    """
    nearest: dict[int, Deviation] = {}
    nearby = [perturbed(x, rng) if i in spot.differentiated else x for i, x in enumerate(spot.values)]
    for values in (spot.values, nearby):
        for compared in _comparisons(spot, values, cotangents, tolerance, rng):
            for i, deviation in compared.items():
                if i not in nearest or deviation.excess < nearest[i].excess:
                    nearest[i] = deviation
            if len(nearest) == len(spot.differentiated) and not any(d.is_wrong for d in nearest.values()):
                return nearest
    return nearest


def _comparisons(
    spot: Spot, values: Sequence[Any], cotangents: Sequence[Any], tolerance: float | None, rng: np.random.Generator
) -> Iterator[dict[int, Deviation]]:
    """Deviations from the body's derivative as it is, then in double precision; from differences if it has no derivative."""
    body, wrt = from_jaxpr(spot.op.params["call_jaxpr"]), spot.differentiated
    avals = [spot.op.inputs[i].aval for i in wrt]
    rule = with_zeros(local_cotangents(spot.graph, [values[i] for i in spot.positions], spot.wrt, cotangents), avals)
    try:
        derivative = local_cotangents(body, values, wrt, cotangents)
    except CkptgradError:
        yield _from_differences(body, values, wrt, cotangents, rule, tolerance, rng)
        return
    yield _where_finite(rule, with_zeros(derivative, avals), wrt, tolerance)
    with jax.enable_x64(True):
        double = in_double_precision(body)
        if double is None:
            return
        derivative = local_cotangents(double, [as_double(x) for x in values], wrt, [as_double(ct) for ct in cotangents])
        derivative = with_zeros(
            [None if d is None else jnp.asarray(d, a.dtype) for d, a in zip(derivative, avals, strict=True)], avals
        )
    yield _where_finite(rule, derivative, wrt, tolerance)


def _where_finite(
    cotangents: Sequence[Any], derivatives: Sequence[Any], wrt: Sequence[int], tolerance: float | None
) -> dict[int, Deviation]:
    """Deviations where the derivative is finite; inputs for which it is finite nowhere are left out."""
    finite = [np.isfinite(as_numpy_double(d)) for d in derivatives]
    ours = [np.where(mask, ct, 0) for mask, ct in zip(finite, cotangents, strict=True)]
    references = [np.where(mask, d, 0) for mask, d in zip(finite, derivatives, strict=True)]
    compared = differences(ours, references, tolerance)
    return {
        i: Deviation(difference.relative, tolerance_of(reference.dtype) if tolerance is None else tolerance)
        for i, difference, mask, reference in zip(wrt, compared, finite, references, strict=True)
        if mask.any() or not mask.size
    }


def _from_differences(
    body: Graph,
    values: Sequence[Any],
    wrt: Sequence[int],
    cotangents: Sequence[Any],
    rule: Sequence[Any],
    tolerance: float | None,
    rng: np.random.Generator,
) -> dict[int, Deviation]:
    """Deviations in one random direction per input; in double precision if the function can run in it."""
    with jax.enable_x64(True):
        double = in_double_precision(body)
        if double is not None:
            values, cotangents = [as_double(x) for x in values], [as_double(ct) for ct in cotangents]
            errors = [difference_error(double, values, i, cotangents, r, rng) for i, r in zip(wrt, rule, strict=True)]
    if double is None:
        errors = [difference_error(body, values, i, cotangents, r, rng) for i, r in zip(wrt, rule, strict=True)]
    return {
        i: Deviation(error[0], max(error[1], tolerance_of(r.dtype) if tolerance is None else tolerance))
        for i, r, error in zip(wrt, rule, errors, strict=True)
        if error
    }
