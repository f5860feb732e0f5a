"""Models that are objects, as the command line's functions take them."""

from __future__ import annotations

import pytest

from ckptgrad.cli.gradient_calls import load_gradient

NNX = """
import jax.numpy as jnp
from flax import nnx

def loss(model, x):
    return jnp.mean(model(x) ** 2)

def args():
    return nnx.BatchNorm(2, rngs=nnx.Rngs(0)), jnp.array([[0.0, 1.0], [2.0, 3.0]])
"""
EQX = """
import equinox as eqx, jax, jax.numpy as jnp

def loss(model, x):
    return jnp.mean(model(x) ** 2)

args = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0)), jnp.ones(2)
"""


@pytest.mark.parametrize(
    ("library", "text", "asked"),
    [pytest.param("flax", NNX, True, marks=pytest.mark.slow), ("equinox", EQX, False)],
)
def test_modules(library, text, asked, run, tmp_path, monkeypatch):
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    name = f"model_of_{library}"
    (tmp_path / f"{name}.py").write_text(text)
    fun, args, options = load_gradient(f"{name}:loss", f"{name}:args", None, {"argnums": 0, "has_aux": False})
    assert options["has_aux"] is asked
    assert (fun(*args)[0] if asked else fun(*args)).shape == ()
    assert "predicted peak" in run("plan", f"{name}:loss", f"{name}:args").output
