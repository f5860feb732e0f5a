"""The byte-level transformer: its parts against what they are defined as."""

from __future__ import annotations

from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.errors import OptionError
from ckptgrad.training import model
from ckptgrad.training.model import Shape
from tests.support.compare import quick

SHAPE = Shape(depth=1, width=8, heads=2, context=6)
PARAMS = quick(lambda: model.init_params(SHAPE, jax.random.key(0)))()
X = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)


@pytest.mark.parametrize("name", ["depth", "width", "heads", "context"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(OptionError, match=f"^{name}=0 is too small"):
        Shape(**({"depth": 1, "width": 8, "heads": 2, "context": 4} | {name: 0}))


def test_heads_divide_the_width():
    with pytest.raises(OptionError, match="heads=3 does not divide width=8"):
        Shape(1, 8, 3, 4)


def test_parameters():
    """Two embeddings, a norm and a head; of the block two norms of 2 x 8, and 12 matrices of 8 x 8 with biases of 5 x 8."""
    count = sum(p.size for p in jax.tree.leaves(PARAMS))
    assert count == (256 + 6) * 8 + 16 + 8 * 256 + (2 * 16 + 12 * 64 + 5 * 8)
    # What writes into the residual stream is smaller the deeper the model is.
    deviation = [float(jnp.std(PARAMS["blocks"][0][name])) for name in ("qkv", "attention_out")]
    assert deviation[0] == pytest.approx(model.INITIAL_SCALE, rel=0.2)
    assert deviation[1] == pytest.approx(model.INITIAL_SCALE / 2**0.5, rel=0.4)


def test_layer_norm():
    found = quick(model.normalise)({"scale": jnp.full(8, 2.0), "shift": jnp.ones(8)}, X)
    wanted = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-5) * 2 + 1
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_attention_by_loops():
    """Head by head and position by position."""
    p = jax.tree.map(np.asarray, PARAMS["blocks"][0])
    q, k, v = np.split(X @ (50 * p["qkv"]), 3, -1)
    mixed = np.zeros_like(X)
    for b in range(2):
        for h in (slice(0, 4), slice(4, 8)):
            for t in range(6):
                scores = k[b, : t + 1, h] @ q[b, t, h] / 2
                weights = np.exp(scores - scores.max())
                mixed[b, t, h] = (weights / weights.sum()) @ v[b, : t + 1, h]
    found = quick(lambda p, x: model.attend(p, x, 2))({**p, "qkv": 50 * p["qkv"]}, X)
    np.testing.assert_allclose(found, mixed @ p["attention_out"], rtol=1e-4, atol=1e-6)


def test_no_byte_sees_what_comes():
    run = quick(lambda tokens: model.logits(PARAMS, tokens, 2))
    tokens = jnp.arange(6)[None] * 7
    changed = run(tokens.at[0, 4].set(99))
    np.testing.assert_array_equal(run(tokens)[:, :4], changed[:, :4])
    assert (run(tokens)[:, 4:] != changed[:, 4:]).any()


def test_the_loss_of_even_scores_is_that_of_guessing():
    params = {**PARAMS, "head": jnp.zeros((8, 256))}
    loss = quick(lambda params, tokens: model.loss(params, tokens, 2))(params, jnp.zeros((3, 7), jnp.int32))
    assert float(loss) == pytest.approx(np.log(256))


@pytest.mark.slow
def test_a_text_is_continued_as_often_by_the_same_bytes():
    def continued(prompt, seed):
        return bytes(islice(model.continuation(PARAMS, SHAPE, prompt, jax.random.key(seed)), 8))

    # Of a prompt longer than the context only the end is read.
    assert continued(b"not to be or", 1) == continued(b" be or", 1)
