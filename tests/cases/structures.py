"""Functions with every structure of arguments and results, and random cotangents of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

X, Y = jnp.array([0.4, -1.1, 2.0]), jnp.array([[0.2, 0.1, -0.3]])
Z = X + 1j * X[::-1]


def chain(x, n=5):
    for _ in range(n):
        x = x + jnp.sin(x) * jnp.cumsum(x)
    return x


FUNCTIONS = {
    "array": (lambda x: chain(x), (X,)),
    "dict": (lambda x, y: {"a": chain(x) * y, "b": (y.sum(), None)}, (X, Y)),
    "matrix": (lambda x, y: jnp.outer(x, y) @ chain(x), (X, Y)),
    "integers out": (lambda x: (chain(x), jnp.argmax(x), x > 0), (X,)),
    "integers in": (lambda x, i: chain(x)[i], (X, jnp.array([2, 0]))),
    "key in": (lambda x, k: chain(x) * jax.random.normal(k, x.shape), (X, jax.random.key(0))),
    "pytree in": (lambda d: chain(d["x"]) * d["y"][0], ({"x": X, "y": (Y, None)},)),
    "an output twice": (lambda x: [chain(x)] * 2, (X,)),
    "an input as output": (lambda x, y: (x, chain(x), y), (X, Y)),
    "a constant as output": (lambda x: (jnp.ones(2), chain(x), 1.0), (X,)),
    "nothing differentiable": (lambda x: (jnp.floor(x), jnp.argmax(x)), (X,)),
    "complex": (lambda z: jnp.exp(z) * z.conj() + jnp.abs(z), (Z,)),
    "real to complex": (lambda x: jnp.fft.rfft(chain(x)), (X,)),
    "complex to real": (lambda z: jnp.real(z * z).sum() + jnp.imag(z), (Z,)),
    "no arguments needed": (lambda x, y: chain(y), (X, Y)),
}


def cotangent(value, seed):
    """Random cotangents of an output, float0 where JAX wants it."""
    rng = np.random.default_rng(seed)

    def leaf(v):
        if not jnp.issubdtype(v.dtype, jnp.inexact):
            return np.zeros(v.shape, jax.dtypes.float0)
        ct = rng.normal(size=v.shape) + (1j * rng.normal(size=v.shape) if v.dtype.kind == "c" else 0)
        return jnp.asarray(ct, v.dtype)

    return jax.tree.map(leaf, jax.tree.map(jnp.asarray, value))
