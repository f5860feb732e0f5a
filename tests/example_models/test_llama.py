"""Llama's transformer: what it computes, and what it says of the axes of its arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.example_models import argument_axes, llama
from ckptgrad.example_models.llama import ROTARY_BASE
from tests.support.compare import quick

SIZES = {"layers": 2, "width": 8, "heads": 4, "groups": 2, "hidden": 12, "context": 5, "batch": 2, "vocabulary": 7}


def naive(params, tokens):
    """The loss, one sequence, position and head at a time, in NumPy's float64."""
    layers, (embedding, gain, head) = params["layers"], (params[k] for k in ("embedding", "gain", "head"))
    losses = []
    for sequence in tokens:
        xs = embedding[sequence[:-1]]
        for i in range(SIZES["layers"]):
            p = {name: w[i] for name, w in layers.items()}
            ys = np.array([norm(x, p["attention_gain"]) for x in xs])
            xs = xs + attention(ys @ p["query"], ys @ p["key"], ys @ p["value"]) @ p["out"]
            ys = np.array([norm(x, p["hidden_gain"]) for x in xs])
            gate = ys @ p["gate"]
            xs = xs + (gate / (1 + np.exp(-gate)) * (ys @ p["up"])) @ p["down"]
        for x, following in zip(xs, sequence[1:], strict=True):
            logits = norm(x, gain) @ head
            losses.append(np.log(np.exp(logits).sum()) - logits[following])
    return np.mean(losses)


def norm(x, gain):
    return x / np.sqrt(np.mean(x**2) + 1e-5) * gain


def attention(queries, keys, values):
    size = SIZES["width"] // SIZES["heads"]
    out = np.zeros_like(queries)
    for h in range(SIZES["heads"]):
        group = h // (SIZES["heads"] // SIZES["groups"])
        mine, theirs = slice(h * size, (h + 1) * size), slice(group * size, (group + 1) * size)
        for s in range(len(queries)):
            query = turned(queries[s, mine], s)
            scores = np.array([query @ turned(keys[t, theirs], t) for t in range(s + 1)]) / np.sqrt(size)
            shares = np.exp(scores) / np.exp(scores).sum()
            out[s, mine] = sum(share * values[t, theirs] for t, share in enumerate(shares))
    return out


def turned(x, position):
    half = len(x) // 2
    numbers = (x[:half] + 1j * x[half:]) * np.exp(1j * position * ROTARY_BASE ** (-np.arange(half) / half))
    return np.concatenate([numbers.real, numbers.imag])


def test_the_loss_is_that_of_a_naive_implementation():
    loss, (params, _) = llama(**SIZES)
    tokens = np.random.default_rng(0).integers(0, SIZES["vocabulary"], (SIZES["batch"], SIZES["context"] + 1))
    expected = naive(jax.tree.map(lambda w: np.asarray(w, np.float64), params), tokens)
    assert quick(loss)(params, jnp.asarray(tokens)) == pytest.approx(expected, rel=1e-5)


def test_every_array_has_a_name_per_axis():
    """Each parameter is placed where it is read, under the names that its argument has, and so are activations."""
    placed = []

    def place(x, *axes):
        assert len(axes) == x.ndim
        placed.append(axes)
        return x

    loss, args = llama(**SIZES, place=place)
    ranks = jax.tree.map(lambda x, axes: len(axes) == x.ndim, args, argument_axes())
    assert all(jax.tree.leaves(ranks))
    jax.eval_shape(loss, *args)
    layers = argument_axes()[0]["layers"].values()
    assert {axes[1:] for axes in layers} < {*placed}
    assert placed.count(("batch", "positions", None)) == 2  # after the embedding, and after the layer of the scan
