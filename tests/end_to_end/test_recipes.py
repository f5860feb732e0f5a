"""Training steps as they are written with other libraries, with `cg.value_and_grad` in place of `jax.value_and_grad`.

Each step is jitted and donates its state; the change is one line.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

import ckptgrad as cg
from tests.support.compare import assert_same
from tests.support.rows import quick_rows

X = jax.random.normal(jax.random.key(1), (8, 8))
WS = [0.3 * jax.random.normal(jax.random.key(k), (8, 8)) for k in range(4)]


def stacked(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        for _ in range(2):
            x = nn.BatchNorm(use_running_average=not train)(x + jnp.tanh(nn.Dense(8)(x)))
            x = nn.Dropout(0.5, deterministic=not train)(x)
        return x


def linen_statistics_and_dropout(value_and_grad):
    """Batch statistics as aux, and a key of its own for each step."""
    model = Normed()

    def loss(params, statistics, key):
        y, changed = model.apply({"params": params, **statistics}, X, mutable=["batch_stats"], rngs={"dropout": key})
        return jnp.mean(y**2), changed

    def step(state, number):
        params, statistics = state
        key = jax.random.fold_in(jax.random.key(2), number)
        (_, statistics), gradient = value_and_grad(loss, has_aux=True)(params, statistics, key)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), statistics

    variables = model.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, X)
    return step, (variables["params"], {"batch_stats": variables["batch_stats"]})


def accumulation_in_a_scan(value_and_grad):
    """Microbatches, their gradients summed in the carry."""

    def step(ws, number):
        def add(total, x):
            value, gradient = value_and_grad(stacked)(ws, x)
            return jax.tree.map(jnp.add, total, gradient), value

        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, ws), (X + number).reshape(4, 2, 8))
        return jax.tree.map(lambda w, g: w - 0.1 * g / 4, ws, total)

    return step, WS


def optax_multi_steps(value_and_grad):
    """Accumulation by optax."""
    optimizer = optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2)

    def step(state, number):
        ws, inner = state
        updates, inner = optimizer.update(value_and_grad(stacked)(ws, X + number)[1], inner, ws)
        return optax.apply_updates(ws, updates), inner

    return step, (WS, optimizer.init(WS))


def mixed_precision_with_loss_scaling(value_and_grad):
    """Master weights in float32, computation in bfloat16, a scaled loss."""

    def loss(ws, x):
        halves = jax.tree.map(lambda w: w.astype(jnp.bfloat16), ws)
        return 128.0 * stacked(halves, x.astype(jnp.bfloat16)).astype(jnp.float32)

    def step(ws, number):
        gradient = value_and_grad(loss)(ws, X + number)[1]
        return jax.tree.map(lambda w, g: w - 0.1 * g / 128.0, ws, gradient)

    return step, WS


def scan_over_layers(value_and_grad):
    """Equal layers, their parameters stacked."""

    def loss(ws, x):
        return jnp.mean(jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, ws)[0] ** 2)

    def step(ws, number):
        return ws - 0.1 * value_and_grad(loss)(ws, X + number)[1]

    return step, jnp.stack(WS)


def pure_functions_as_of_haiku(value_and_grad):
    """`init(key, x)` and `apply(params, key, x)`, parameters by module and name; dropout by the key."""

    def init(key, x):
        keys = jax.random.split(key, 3)
        return {f"net/linear_{k}": {"w": jax.random.normal(keys[k], (8, 8)) / 4, "b": jnp.zeros(8)} for k in range(3)}

    def apply(params, key, x):
        for k, layer in enumerate(params.values()):
            kept = jax.random.bernoulli(jax.random.fold_in(key, k), 0.5, x.shape)
            x = x + jnp.tanh(x @ layer["w"] + layer["b"]) * kept / 0.5
        return x

    def loss(params, key, x):
        return jnp.mean(apply(params, key, x) ** 2)

    def step(params, number):
        gradient = value_and_grad(loss)(params, jax.random.fold_in(jax.random.key(2), number), X)[1]
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)

    return step, init(jax.random.key(0), X)


def dynamic_loss_scaling(value_and_grad):
    """A scale that is halved, and a step that is left out, where a gradient is not finite: here the first one."""

    def step(state, number):
        ws, scale = state
        gradient = value_and_grad(lambda ws, scale: scale * stacked(ws, X + number + 4))(ws, scale)[1]
        finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(g)) for g in gradient]))
        ws = [jnp.where(finite, w - 0.1 * g / scale, w) for w, g in zip(ws, gradient, strict=True)]
        return ws, jnp.where(finite, scale, scale / 2.0**100)

    return step, (WS, jnp.float32(2.0**127))


RECIPES = [
    linen_statistics_and_dropout,
    accumulation_in_a_scan,
    optax_multi_steps,
    mixed_precision_with_loss_scaling,
    scan_over_layers,
    pure_functions_as_of_haiku,
    dynamic_loss_scaling,
]


@pytest.mark.parametrize(
    "recipe", quick_rows(RECIPES, scan_over_layers, optax_multi_steps), ids=lambda recipe: recipe.__name__
)
def test_a_step_is_that_of_jax(recipe):
    def trained(value_and_grad):
        step, state = recipe(value_and_grad)
        jitted = jax.jit(step, donate_argnums=0)
        state = jax.tree.map(jnp.copy, state)
        for number in range(2):
            state = jitted(state, number)
        return state

    ours = trained(lambda f, **options: cg.value_and_grad(f, budget="1MiB", **options))
    theirs = trained(jax.value_and_grad)
    assert recipe is not dynamic_loss_scaling or theirs[1] == 2.0**27
    if recipe is mixed_precision_with_loss_scaling:  # steps are as exact as the dtype in which they were computed
        ours, theirs = ([(w - old).astype(jnp.bfloat16) for w, old in zip(ws, WS, strict=True)] for ws in (ours, theirs))
    assert_same(ours, theirs, scale=1 if recipe is mixed_precision_with_loss_scaling else 20, whole=True)
