"""Every public function of JAX's numerical namespaces that can be called with one of a few argument lists.

Found by looking, not listed by hand: what a new JAX brings is tried too.  Where `jax.vjp` gives
cotangents, ours are the same; where it refuses, ours works or refuses with an error of its own.
"""

from __future__ import annotations

import inspect
import warnings

import jax
import jax.image
import jax.numpy as jnp
import jax.ops
import jax.scipy.fft
import jax.scipy.integrate
import jax.scipy.linalg
import jax.scipy.ndimage
import jax.scipy.signal
import jax.scipy.special
import jax.scipy.stats
import numpy as np
import pytest

import ckptgrad as cg
from tests.support.compare import quick

B = jax.random.uniform(jax.random.key(1), (3, 3), minval=0.2, maxval=0.8)
A = B @ B.T + 0.3 * jnp.eye(3)
V, W, PLACES = A[0], B[1], jnp.array([0, 2, 1])
ARGUMENTS = [
    (A, (6, 6), "linear"), (A, jnp.array([6, 6]), (0, 1), jnp.array([2.0, 2]), jnp.zeros(2), "linear"),
    (A,), (A, B), (A, B, 2 * A), (V,), (V, W), (V, W, V), (V, W, V, W), (A, PLACES), (A, PLACES, 3), (A, V),
    (A, 0), (A, 1), (A, 2),
    (V, 1), (V, 2), (PLACES, V), (PLACES, A), (2, A), ([A, B],), ([V, W],), (A > 0.5, A, B), (A, V, W), (V, 0, 1, W),
    (A, (1, 1)),
    (A, (2, 2)), (A, (9,)), (A, PLACES, V), (A, 0, 1), ("ij,jk->ik", A, B), (A, [1]), (A, (2, 0)), (lambda x: x * 2, 0, A),
    (V, V, 2.0), (A, "float32"), (A, [PLACES, PLACES], 1), (A[:2, :2],),
]  # fmt: skip

# How many functions of each namespace are differentiated at least, so that the search does not fall silent.
LEAST = {
    "numpy": 200, "lax": 75, "numpy.linalg": 25, "numpy.fft": 15, "nn": 30, "scipy.special": 45, "scipy.linalg": 15,
    "scipy.signal": 7, "scipy.fft": 4, "scipy.ndimage": 0, "scipy.integrate": 1, "lax.linalg": 6, "image": 1, "ops": 1,
    "scipy.stats": 90,
}  # fmt: skip


def functions(namespace: str):
    """(name, function) of everything public and callable, one level of modules below `scipy.stats` included."""
    module = jax
    for part in namespace.split("."):
        module = getattr(module, part)
    modules = [module]
    if namespace == "scipy.stats":
        modules += [m for _, m in inspect.getmembers(module, inspect.ismodule)]
    for m in modules:
        for name, fun in inspect.getmembers(m, callable):
            writes = name.startswith("save")
            if not name.startswith("_") and not inspect.isclass(fun) and not writes:
                yield f"{m.__name__}.{name}", fun


def is_inexact(x) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)


def differentiable_call(fun):
    """The function of its float arguments, and these, for the first argument list that it takes; or None."""
    for args in ARGUMENTS:
        leaves, tree = jax.tree.flatten(args)
        places = [i for i, x in enumerate(leaves) if is_inexact(x)]

        def call(*xs, leaves=leaves, tree=tree, places=places):
            given = list(leaves)
            for i, x in zip(places, xs, strict=True):
                given[i] = x
            return [y for y in jax.tree.leaves(fun(*jax.tree.unflatten(tree, given))) if is_inexact(y)]

        xs = [leaves[i] for i in places]
        try:
            outputs = jax.eval_shape(call, *xs)
        except Exception:  # Not a list of arguments for this function, whatever it says.
            continue
        if outputs:
            return call, xs, outputs
    return None


def cotangents(outputs):
    rng = np.random.default_rng(0)
    numbers = [rng.normal(size=y.shape) + (1j * rng.normal(size=y.shape) if y.dtype.kind == "c" else 0) for y in outputs]
    return [jnp.asarray(n, y.dtype) for n, y in zip(numbers, outputs, strict=True)]


def compare(fun) -> str:
    """ "agrees", "refused", "not callable", or what is wrong."""
    found = differentiable_call(fun)
    if found is None:
        return "not callable"
    call, xs, outputs = found
    cts = cotangents(outputs)
    try:
        wanted = quick(lambda xs, cts: jax.vjp(call, *xs)[1](cts))(xs, cts)
    except Exception as error:
        try:
            cg.vjp(call, *xs)[1](cts)
        except (cg.CkptgradError, type(error)):
            pass
        except Exception as other:
            return f"JAX refuses by {type(error).__name__}, ours by {type(other).__name__}: {other}"
        return "refused"
    try:
        for a, b in zip(quick(lambda xs, cts: cg.vjp(call, *xs)[1](cts))(xs, cts), wanted, strict=True):
            size = np.max(np.abs(b[np.isfinite(b)]), initial=1e-3)
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * size)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "agrees"


# A traced value among the nondiff_argnums of a custom_jvp, which JAX itself cannot stage; a key of floats.
KNOWN = {"jax.scipy.special.expn", "jax.lax.rng_bit_generator"}


@pytest.mark.slow
@pytest.mark.parametrize("namespace", LEAST)
def test_every_function_agrees_with_jax(namespace):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdicts = {name: compare(fun) for name, fun in functions(namespace)}
    wrong = {n: v for n, v in verdicts.items() if v not in ("agrees", "refused", "not callable") and n not in KNOWN}
    assert wrong == {}
    assert sum(v == "agrees" for v in verdicts.values()) >= LEAST[namespace]
