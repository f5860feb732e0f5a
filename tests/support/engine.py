"""What a row of `cases.rules` is checked with: our reverse mode, arguments, comparisons."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ckptgrad.autodiff.reverse import backpropagate, forward
from ckptgrad.graph.graph import Constant
from ckptgrad.graph.trace import trace
from tests.cases import Case
from tests.support.compare import quick


def both_gradients(case: Case, args: Sequence[Any], cts: Sequence[Any]) -> tuple[Any, Any]:
    """Ours and JAX's, in one compilation."""
    return compiled(lambda *given: (our_gradient(case)(*given), jax_gradient(case)(*given)))(args, cts)


def compiled(fun: Callable) -> Callable:
    """For code that runs once; bfloat16 is rounded wherever the program says so."""
    return quick(fun, xla_allow_excess_precision=False)


def our_vjp(fun: Callable, *args: Any) -> tuple[list[Any], Callable[..., list[Any]]]:
    """Outputs of `fun` and the map from their cotangents to those of the arguments."""
    graph = trace(fun, *args)
    tape = forward(graph, args, graph.inputs)
    outputs = [v.value if isinstance(v, Constant) else tape.env[v] for v in graph.outputs]

    def pull(*cts: Any) -> list[Any]:
        seeds: dict[Any, Any] = {}
        for v, ct in zip(graph.outputs, cts, strict=True):
            if not isinstance(v, Constant) and is_inexact(v):
                seeds[v] = seeds[v] + ct if v in seeds else ct
        found = backpropagate(tape, seeds, graph.inputs)
        return [jnp.zeros_like(x) if g is None else g for x, g in zip(args, found, strict=True)]

    return outputs, pull


def is_inexact(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, np.inexact)


def our_gradient(case: Case) -> Callable:
    """(args, cts) -> cotangents of the arguments, by ckptgrad."""
    return lambda args, cts: tuple(our_vjp(flat(case), *args)[1](*cts))


def jax_gradient(case: Case) -> Callable:
    """(args, cts) -> cotangents of the arguments, by JAX."""
    return lambda args, cts: jax.vjp(flat(case), *args)[1](tuple(cts))


def flat(case: Case) -> Callable:
    """The function of a row, always with a tuple of its inexact outputs."""

    def fun(*args):
        out = case.fun(*args)
        return tuple(y for y in (out if isinstance(out, (tuple, list)) else [out]) if is_inexact(y))

    return fun


def arguments(case: Case, dtype: Any, lead: Sequence[int] = ()) -> tuple[Any, ...]:
    """The arguments of a row, with leading axes if asked for."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    domains = [case.domain] * len(case.args) if isinstance(case.domain, tuple) else case.domain
    wide = {"float64": "complex128"}.get(np.dtype(dtype).name, "complex64") if case.complex else dtype

    def fill(spec: Any, domain: tuple[float, float]) -> Any:
        if isinstance(spec, np.ndarray):
            return jnp.asarray(np.broadcast_to(spec, (*lead, *spec.shape)), wide)
        shape = (*lead, *spec)
        values = rng.uniform(*domain, shape)
        if case.complex:
            values = values + 1j * rng.uniform(*domain, shape)
        return jnp.asarray(values, wide)

    return tuple(fill(spec, domain) for spec, domain in zip(case.args, domains, strict=True))


def like(values: Sequence[Any], seed: int = 0) -> tuple[Any, ...]:
    """Random arrays with the shapes and dtypes of others."""
    rng = np.random.default_rng(seed)

    def one(v: Any) -> Any:
        x = rng.normal(size=v.shape)
        if jnp.issubdtype(v.dtype, np.complexfloating):
            x = x + 1j * rng.normal(size=v.shape)
        return jnp.asarray(x, v.dtype)

    return tuple(one(v) for v in values)


def cotangents(case: Case, args: Sequence[Any], seed: int = 0) -> tuple[Any, ...]:
    return like(jax.eval_shape(flat(case), *args), seed)


def special_arguments(case: Case) -> tuple[Any, ...]:
    """Every combination of the special values, one vector an argument."""
    grid = itertools.product(case.special, repeat=len(case.args))
    return tuple(jnp.asarray(column, np.float32) for column in zip(*grid, strict=True))


def inner(xs: Sequence[Any], ys: Sequence[Any]) -> Any:
    """The real part of the sum of products, no conjugation: JAX's pairing of cotangent and tangent."""
    return sum(jnp.sum(x * y).real for x, y in zip(xs, ys, strict=True))


def directional(case: Case, args: Sequence[Any], cts: Sequence[Any], step: float = 1e-5) -> tuple[Any, Any]:
    """The derivative of <cts, fun(args)> in a random direction: by our rules, by differences."""

    @compiled
    def both(args, cts, direction):
        def along(t: float) -> Any:
            return inner(cts, flat(case)(*(x + t * d for x, d in zip(args, direction, strict=True))))

        ours = inner(our_gradient(case)(args, cts), direction)
        return ours, (along(step) - along(-step)) / (2 * step)

    return both(args, cts, like(args, seed=1))


def assert_avals(gradients: Sequence[Any], args: Sequence[Any]) -> None:
    """A cotangent has the shape and dtype of what it belongs to."""
    assert [(g.shape, g.dtype) for g in gradients] == [(x.shape, x.dtype) for x in args]


def assert_close(ours: Sequence[Any], theirs: Sequence[Any], rtol: float) -> None:
    """Equal within a tolerance relative to the largest entry; infinities and nans at the same places."""
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = (np.asarray(v, np.complex128 if np.iscomplexobj(v) else np.float64) for v in (a, b))
        finite = np.abs(b[np.isfinite(b)])
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * (finite.max() if finite.size else 1))


def assert_as_jax(case: Case, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    """Equal bit for bit (but for the sign of zeros and the bits of nans) where the row says so."""
    if case.exact:
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    else:
        assert_close(ours, theirs, 1e-5)
