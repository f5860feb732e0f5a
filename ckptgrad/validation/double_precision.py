"""A graph in double precision, and derivatives by differences: references where the plain derivative will not do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.compat import CUSTOM_JVP, CUSTOM_VJP
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Constant, Graph, Variable
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.work import inner_programs

# Operations whose result depends on the number of bits, or that run the user's Python code, which may expect its own dtypes.
_FIXED = {"bitcast_convert_type", "reduce_precision", "nextafter", "pure_callback", "io_callback", "debug_callback"}
# A difference may be off by this multiple of its estimated error.
_MARGIN = 4.0


def as_double(x: Any) -> Any:
    """A value in double precision, if it is a float or complex array."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or not dtypes.issubdtype(dtype, jnp.inexact):
        return x
    return jnp.asarray(np.asarray(x).astype(_double(dtype)))


def in_double_precision(graph: Graph) -> Graph | None:
    """The graph in double precision, with custom rules replaced by their functions; call it under `jax.enable_x64`.

    None for graphs with loops, callbacks, or operations on the bits of numbers.
    """

    def run(*inputs: Any) -> list[Any]:
        return _replay(graph, inputs)

    structs = [jax.ShapeDtypeStruct(v.shape, _double(v.dtype)) for v in graph.inputs]
    try:
        return from_jaxpr(jax.make_jaxpr(run)(*structs))
    except (TypeError, ValueError, NotImplementedError):
        return None


def _replay(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    env: dict[Variable, Any] = {v: as_double(x) for v, x in graph.constants.items()}
    env.update(zip(graph.inputs, inputs, strict=True))

    def value(atom: Any) -> Any:
        return jnp.asarray(atom.value, _double(atom.aval.dtype)) if isinstance(atom, Constant) else env[atom]

    for op in graph.operations:
        values = [value(a) for a in op.inputs]
        if op.name in (CUSTOM_JVP, CUSTOM_VJP):
            results = _replay(from_jaxpr(op.params["call_jaxpr"]), values)
        elif op.name in _FIXED or inner_programs(op.params):
            raise NotImplementedError(op.name)
        else:
            params = {k: _double(v) if isinstance(v, np.dtype) else v for k, v in op.params.items()}
            results = apply(op.with_params(**params), values)
        env.update(zip(op.outputs, results, strict=True))
    return [value(a) for a in graph.outputs]


def _double(dtype: Any) -> Any:
    if dtypes.issubdtype(dtype, jnp.complexfloating):
        return np.dtype(np.complex128)
    return np.dtype(np.float64) if dtypes.issubdtype(dtype, jnp.floating) else dtype


@np.errstate(invalid="ignore", over="ignore")
def perturbed(x: Any, rng: np.random.Generator) -> Any:
    """A value nearby, away from points where a function has a kink."""
    numbers = as_numpy_double(x)
    size = float(np.sqrt(np.mean(np.abs(numbers) ** 2))) if numbers.size else 0.0
    scale = np.where(numbers == 0, size or 1.0, np.abs(numbers))
    return jnp.asarray(numbers + 1e-2 * scale * rng.standard_normal(numbers.shape), x.dtype)


def as_numpy_double(x: Any) -> np.ndarray:
    """A float or complex value as a NumPy array in double precision, whether or not JAX has it enabled."""
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


@np.errstate(invalid="ignore", over="ignore")
def difference_error(
    graph: Graph, inputs: Sequence[Any], k: int, cotangents: Sequence[Any], cotangent: Any, rng: np.random.Generator
) -> tuple[float, float] | None:
    """How far a cotangent is from central differences in a random direction.

    For a function f with output cotangent c and a direction d, the sum over c (f(x + hd) - f(x - hd)) / 2h should equal
    the input's cotangent times d. Two steps, h and 2h, tell how far the differences can be trusted.

    Args:
        graph: the function.
        inputs: values of its inputs.
        k: the position of the input in question.
        cotangents: one per output, None for zero.
        cotangent: that of input k.
        rng: draws the direction.

    Returns:
        The difference between the two relative to the larger, and the largest one allowed; None if values are not finite.
    """
    x, eps = as_numpy_double(inputs[k]), float(jnp.finfo(inputs[k].dtype).eps)
    size = float(np.sqrt(np.mean(np.abs(x) ** 2))) if x.size else 0.0
    direction = rng.standard_normal(x.shape)
    if np.iscomplexobj(x):
        direction = direction + 1j * rng.standard_normal(x.shape)
    seeds = [(i, as_numpy_double(ct)) for i, ct in enumerate(cotangents) if ct is not None]

    def at(point: Any) -> list[np.ndarray]:
        values = list(inputs)
        values[k] = point
        outputs = graph(*values)
        return [as_numpy_double(outputs[i]) for i, _ in seeds]

    def error(h: float) -> tuple[float, float, float]:
        # The step really taken is what rounding leaves of h times the direction.
        plus, minus = (jnp.asarray(x + s * h * direction, inputs[k].dtype) for s in (1, -1))
        step = (as_numpy_double(plus) - as_numpy_double(minus)) / (2 * h)
        pairs = list(zip(at(plus), at(minus), [ct for _, ct in seeds], strict=True))
        slopes = [np.real(ct * (a - b)) / (2 * h) for a, b, ct in pairs]
        products = np.real(as_numpy_double(cotangent) * step)
        rounding = eps / h * float(np.sqrt(sum(np.sum(np.abs(ct * a) ** 2) for a, _, ct in pairs)))
        largest = max(float(np.sqrt(sum(np.sum(s**2) for s in slopes))), float(np.sqrt(np.sum(products**2))))
        return sum(float(np.sum(s)) for s in slopes) - float(np.sum(products)), rounding, largest

    h = eps ** (1 / 3) * (size or 1.0)
    near, rounding, scale = error(h)
    far, _, _ = error(2 * h)
    if not np.isfinite([near, far, rounding, scale]).all():
        return None
    if not scale:
        return 0.0, 1.0
    return abs(near) / scale, _MARGIN * (abs(far - near) + rounding) / scale + math.sqrt(eps)
