"""Whether stages are fenced is part of a plan: without a budget they are left open where that takes fewer bytes."""

from __future__ import annotations

import functools
import math
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.compat import OPEN_CONVOLUTIONS_ARE_SMALL
from ckptgrad.example_models import gelu_stack, resnet, transformer
from ckptgrad.target.allocated import compiled_memory
from tests.support.compare import assert_same

X = jax.random.normal(jax.random.key(0), (512, 1024)) * 0.1
W = jax.random.normal(jax.random.key(1), (1024, 1024)) * 0.03


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape) * 0.1


# What a fence keeps in memory is more than what it saves.
OPEN = {
    "elementwise": (lambda x: jnp.sum(jnp.exp(jnp.sin(jnp.cos(x)) * jnp.tanh(x))), (X,)),
    "softmax": (lambda x: jnp.sum(jax.nn.softmax(jnp.sin(x)) ** 2 * x), (X,)),
    "gather": (lambda x: jnp.sum(jnp.sin(x)[jnp.arange(0, 512, 2)] ** 2), (X,)),
    "scatter": (lambda x: jnp.sum(jnp.zeros_like(x).at[jnp.arange(512)[::-1]].add(jnp.sin(x)) ** 2), (X,)),
    "cond": (lambda x: jnp.sum(lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x) ** 2), (X,)),
    "tied weights": (lambda w, x: jnp.sum(jnp.tanh(jnp.tanh(jnp.tanh(x @ w) @ w) @ w)), (W, X)),
    "used twice": (lambda x: jnp.sum(jnp.sin(x) @ x.T + (x * x) @ jnp.cos(x).T), (X,)),
}


def convolve(x, w, layout):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=layout)


def convolutions(ws, x):
    return jnp.mean(functools.reduce(lambda x, w: jnp.tanh(convolve(x, w, ("NHWC", "HWIO", "NHWC"))), ws, x) ** 2)


def recurrent(ws, xs):
    def step(h, x):
        h = jnp.tanh(x @ ws[0] + h @ ws[1])
        return h, h

    return jnp.mean(lax.scan(step, jnp.zeros(xs.shape[1:]), xs)[1] ** 2)


def experts(layers, x):
    for router, up, down in layers:
        hidden = jax.nn.gelu(jnp.einsum("bd,edh->ebh", x, up))
        x = x + jnp.einsum("ebh,ehd,be->bd", hidden, down, jax.nn.softmax(x @ router))
    return jnp.mean(x**2)


def u_net(ws, x):
    down, middle, up = ws

    def layer(x, w):
        return jax.nn.relu(convolve(x, w, ("NHWC", "HWIO", "NHWC")))

    left = layer(x, down)
    low = layer(lax.reduce_window(left, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"), middle)
    return jnp.mean(layer(jnp.concatenate([jnp.repeat(jnp.repeat(low, 2, 1), 2, 2), left], -1), up) ** 2)


MODELS = {
    "GELU": functools.partial(gelu_stack, layers=3, width=64, hidden=256, batch=512),
    "transformer": functools.partial(transformer, blocks=2, width=64, context=64, batch=4),
    "ResNet": functools.partial(resnet, counts=(1, 1), width=16, size=16, batch=4),
    "convolutions": lambda: (convolutions, ([normal(3, 3, 16, 16, seed=i) for i in range(4)], normal(8, 32, 32, 16))),
    "recurrent": lambda: (recurrent, ([normal(128, 128), normal(128, 128)], normal(64, 64, 128))),
    "experts": lambda: (experts, ([(normal(64, 4), normal(4, 64, 256), normal(4, 256, 64))] * 2, normal(512, 64))),
    "U-Net": lambda: (
        u_net, ((normal(3, 3, 8, 16), normal(3, 3, 16, 16), normal(3, 3, 32, 8)), normal(4, 64, 64, 8))
    ),
}  # fmt: skip


def temporaries(function, args):
    return compiled_memory(jax.jit(function).lower(*args).compile()).temporary_bytes


@pytest.mark.parametrize("name", OPEN)
def test_stages_are_left_open_where_fences_take_more(name):
    loss, args = OPEN[name]
    found = cg.value_and_grad(loss).compile(*args)
    # A few scalars more, at most.
    assert found.temporary_bytes <= temporaries(jax.value_and_grad(loss), args) + 64
    assert found.temporary_bytes < temporaries(cg.value_and_grad(loss), args)
    assert not found.plan.fenced
    assert found.plan.found is None
    assert "fused with each other" in " ".join(str(found.plan).split())
    assert_same(found(*args), jax.value_and_grad(loss)(*args), scale=8)


def test_convolutions_with_channels_first_are_left_open():
    """Fenced, what crosses between two convolutions is transposed there and back."""

    def loss(ws, x):
        return jnp.mean(functools.reduce(lambda x, w: jnp.tanh(convolve(x, w, ("NCHW", "OIHW", "NCHW"))), ws, x) ** 2)

    args = [normal(16, 16, 3, 3, seed=i) for i in range(4)], normal(8, 16, 32, 32)
    found = cg.value_and_grad(loss).compile(*args)
    assert found.plan.fenced != OPEN_CONVOLUTIONS_ARE_SMALL
    assert found.temporary_bytes <= temporaries(jax.value_and_grad(loss), args)
    if OPEN_CONVOLUTIONS_ARE_SMALL:
        assert found.rounds == 1
        assert moved(found.executable) <= moved(jax.jit(jax.value_and_grad(loss)).lower(*args).compile())
    assert_same(found(*args), jax.value_and_grad(loss)(*args), scale=8)


def moved(executable):
    """Copies and transpositions of whole activations in a compiled program."""
    pattern = re.compile(r"\s*(?:ROOT )?%\S+ = f32\[([\d,]+)\]\S* (?:copy|transpose)\(")
    shapes = (pattern.match(line) for line in executable.as_text().splitlines())
    return sum(math.prod(map(int, shape[1].split(","))) == 8 * 16 * 32 * 32 for shape in shapes if shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_without_a_budget_no_model_takes_more_than_jax_grad(name):
    loss, args = MODELS[name]()
    found = cg.value_and_grad(loss).compile(*args)
    assert 1 << 20 < found.temporary_bytes <= temporaries(jax.value_and_grad(loss), args)
    assert found.plan.fenced


@pytest.mark.slow
@pytest.mark.parametrize("batch", [32, 256])
def test_per_example_gradients_take_no_more_than_jax_grad(batch):
    def loss(ws, x):
        return jnp.sum(functools.reduce(lambda x, w: jnp.tanh(x @ w), ws, x) ** 2)

    args = [normal(128, 128, seed=i) for i in range(3)], normal(batch, 128)
    ours, theirs = (jax.vmap(grad(loss), (None, 0)) for grad in (cg.grad, jax.grad))
    assert temporaries(ours, args) <= temporaries(theirs, args)


def test_few_bytes_and_repeated_stages_keep_their_fences():
    loss, (x,) = OPEN["elementwise"]
    few = cg.value_and_grad(loss).compile(x[:32])
    assert few.plan.fenced
    assert few.rounds == 1
    loss, args = OPEN["tied weights"]
    least = cg.value_and_grad(loss, policy="recompute_all").compile(*args)
    assert least.plan.fenced
    assert least.rounds == 1
