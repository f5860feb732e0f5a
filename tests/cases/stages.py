"""Stages of a chain, and the kinds that they make."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.chain.program import build_program
from ckptgrad.target.attached import attached
from ckptgrad.target.roofline import Roofline

ROOFLINE = Roofline(attached())
X = jnp.linspace(-1, 1, 16 * 8).reshape(16, 8)
W = jnp.linspace(-0.5, 0.5, 64).reshape(8, 8)
N = X.nbytes


def residual(w, x):
    return x + jnp.tanh(x @ w)


def plain(w, x):
    return jnp.tanh(x @ w)


def linear(w, x):
    return x @ w


def norm(w, x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[0]


def gelu(w, x):
    return x + jax.nn.gelu(x @ w)


def attention(w, x):
    h = jnp.stack([x, x * 2]) @ w
    return x + (jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", h, h)) @ h).sum(0)


def dropout(w, x):
    return jnp.where(jax.random.bernoulli(jax.random.key(1), 0.5, x.shape), x @ w, 0.0)


STAGES = [residual, plain, linear, norm, gelu, attention, dropout]


def kind_of(stage, w=W, x=X):
    """The kind of the middle one of three such stages: its input is a boundary, its weight an argument."""
    graph = cg.trace(lambda a, b, c, x: stage(c, stage(b, stage(a, x))), w, w, w, x)
    each, rest = divmod(len(graph.operations), 3)
    assert rest == 0
    return build_program(graph, graph.inputs, graph.outputs, attached(), [each, 2 * each]).stages[1].kind
