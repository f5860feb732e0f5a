"""The engine differentiates by itself: it never calls JAX's differentiation. One file asks what a process runs on."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg

FORBIDDEN = ["grad", "value_and_grad", "vjp", "jvp", "linearize", "checkpoint", "jacrev", "jacfwd", "linear_transpose"]
FORBIDDEN += ["hessian"]


@jax.custom_jvp
def own_jvp(x):
    return jnp.tanh(x)


@own_jvp.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return own_jvp(x), t * (1 - jnp.tanh(x) ** 2)


@jax.custom_vjp
def own_vjp(x):
    return jnp.sin(x)


own_vjp.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x),))


def loss(w, x):
    x = own_vjp(own_jvp(x @ w))
    x, _ = jax.lax.scan(lambda c, _: (jnp.sin(c @ w), None), x, None, length=3)
    x = jax.lax.cond(x[0, 0] > 0, jax.nn.relu, jax.nn.gelu, x)
    return jax.nn.logsumexp(jnp.sort(x, -1)[:, 1:]).sum()


@pytest.fixture
def without_jax(monkeypatch):
    """JAX's differentiation raises from when this is called on."""

    def refuse(*args, **kwargs):
        raise AssertionError("JAX's differentiation was called")

    def begin():
        for name in FORBIDDEN:
            monkeypatch.setattr(jax, name, refuse)
        # What every one of them runs on, whichever name they were called by.
        monkeypatch.setattr("jax._src.interpreters.ad.jvp", refuse)
        monkeypatch.setattr("jax._src.interpreters.ad.backward_pass", refuse)

    return begin


def dense(w, x):
    """What has no custom_vjp: forward mode goes through it."""
    x = jnp.linalg.solve(w @ w.T + jnp.eye(4), own_jvp(x @ w).T).T
    x = jax.lax.fori_loop(0, jnp.int32(3), lambda i, c: jnp.sin(c @ w), x)
    return jax.nn.logsumexp(jnp.cumprod(x, 1).sum(-1)).sum() + jnp.linalg.eigvalsh(w @ w.T).sum()


DOORS = {
    "jvp": (lambda d, f, w, x: d.jvp(f, (w, x), (w, x))[1]),
    "linearize": (lambda d, f, w, x: d.linearize(f, w, x)[1](w, x)),
    "vjp": (lambda d, f, w, x: d.vjp(f, w, x)[1](jnp.float32(2))),
    "jacrev": (lambda d, f, w, x: d.jacrev(f)(w, x)),
    "jacfwd": (lambda d, f, w, x: d.jacfwd(f)(w, x)),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "linearize")) for n in DOORS])
def test_no_door_does(name, without_jax):
    door = DOORS[name]
    w, x = jnp.eye(4) / 2 + jnp.linspace(0, 0.3, 16).reshape(4, 4), jnp.linspace(-1, 1, 12).reshape(3, 4)

    def reference(w, x):
        # The same steps in a form that JAX can go back through.
        x = jnp.linalg.solve(w @ w.T + jnp.eye(4), own_jvp(x @ w).T).T
        x = jax.lax.fori_loop(0, 3, lambda i, c: jnp.sin(c @ w), x)
        return jax.nn.logsumexp(jnp.cumprod(x, 1).sum(-1)).sum() + jnp.linalg.eigvalsh(w @ w.T).sum()

    wanted = door(jax, reference, w, x)
    without_jax()
    found = door(cg, dense, w, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert jnp.allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("policy", ["store_all", "recompute_all", "optimal"])
def test_the_engine_never_calls_the_differentiation_of_jax(policy, without_jax):
    w, x = jnp.eye(4) / 2, jnp.linspace(-1, 1, 12).reshape(3, 4)
    wanted = jax.grad(loss)(w, x)

    without_jax()
    found = cg.grad(loss, policy=policy)(w, x)
    assert jnp.allclose(found, wanted, rtol=1e-5, atol=1e-6)


ROOT = Path(cg.__file__).parent
# What a linter forbids elsewhere; the rooms that may differentiate with JAX are exempt from its rules altogether.
_ATTACHED = re.compile(r"\bjax\.(default_backend|devices|local_devices|config\.jax_default_device)\b")


def test_one_file_asks_what_is_attached():
    asking = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if _ATTACHED.search(path.read_text())]
    assert asking == ["target/attached.py"]
