"""`apply_gradients`: the step is the ordinary one, and gradients are gone as soon as they are used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ckptgrad as cg

OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adamw on a schedule": optax.adamw(optax.linear_schedule(1e-2, 1e-3, 10), weight_decay=0.1),
    "lion": optax.lion(1e-2),
    "rmsprop": optax.rmsprop(1e-2),
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=2),
    "lamb": optax.lamb(1e-2),
    "each clipped by itself": optax.chain(optax.clip(0.01), optax.adaptive_grad_clip(0.1), optax.sgd(0.1)),
    "noise": optax.noisy_sgd(0.1, key=0),
}
MIXED = {
    "global norm": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    "if all are finite": optax.apply_if_finite(optax.sgd(0.1), 3),
    "several steps": optax.MultiSteps(optax.sgd(0.1), 2),
}


def loss(params, x, scale=1.0):
    """Layers, one of them read twice, a loop over stacked ones, and a parameter that nothing reads."""
    x = jnp.tanh(x @ params["first"])
    for w in params["layers"]:
        x = jnp.tanh(x @ w + params["shift"])
    x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params["stacked"])
    return scale * jnp.mean((x @ params["first"].T) ** 2)


def parameters():
    rng = np.random.default_rng(0)
    shapes = {"first": (6, 6), "layers": [(6, 6)] * 3, "shift": (6,), "stacked": (2, 6, 6), "unread": (4,)}
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s)), shapes, is_leaf=lambda s: isinstance(s, tuple))


def ordinary(optimizer, params, state, *args, **kwargs):
    value, gradient = jax.value_and_grad(loss)(params, *args, **kwargs)
    changes, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, changes), state, value


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["adam", *(pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS if n != "adam")])
def test_steps_are_the_ordinary_ones(name):
    optimizer = OPTIMIZERS[name]
    with jax.enable_x64():
        params, x = parameters(), jnp.ones((3, 6))
        step = jax.jit(cg.apply_gradients(loss, optimizer, budget="min"), donate_argnums=(0, 1))
        ours = theirs = params, optimizer.init(params)
        ours = jax.tree.map(jnp.copy, ours)
        for k in range(2):
            *ours, value = step(*ours, x, scale=1.0 + k)
            *theirs, expected = ordinary(optimizer, *theirs, x, scale=1.0 + k)
            assert_same((tuple(ours), value), (tuple(theirs), expected))


@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, "min"])
def test_eager_and_jitted_steps_with_aux(budget):
    optimizer = OPTIMIZERS["adam"]
    with jax.enable_x64():
        params, x = parameters(), jnp.ones((3, 6))
        state = optimizer.init(params)
        step = cg.apply_gradients(lambda p, x: (loss(p, x), x.sum()), optimizer, has_aux=True, budget=budget)
        *theirs, expected = ordinary(optimizer, params, state, x)
        for function in (step, jax.jit(step)):
            *ours, (value, aux) = function(params, state, x)
            assert_same((ours, value, aux), (theirs, expected, x.sum()))


@pytest.mark.parametrize("name", MIXED)
def test_updates_that_read_several_gradients_are_refused(name):
    params = parameters()
    with pytest.raises(
        cg.OptionError, match=r"the update of params\['first'\] depends on the gradients of params\['layers'\]"
    ):
        cg.apply_gradients(loss, MIXED[name])(params, MIXED[name].init(params), jnp.ones((3, 6)))


def test_something_else_than_an_optimizer_is_refused():
    with pytest.raises(cg.OptionError, match="without a method update"):
        cg.apply_gradients(loss, optax.sgd)
    with pytest.raises(cg.OptionError, match="runtime='staged'"):
        cg.doors.apply_gradients.UpdateFunction(loss, optax.sgd(0.1), cg.request.Request(runtime="staged"))


def test_a_changed_structure_is_refused():
    class Other:
        def update(self, updates, state, params):
            return {"w": updates["w"], "more": updates["w"]}, state

    with pytest.raises(cg.GradientTypeError, match="must be structured as the parameters"):
        cg.apply_gradients(lambda p: p["w"].sum(), Other())({"w": jnp.ones(3)}, ())


LAYERS, WIDTH = 8, 256
WEIGHT = WIDTH * WIDTH * 4


def chain(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return jnp.mean(x**2)


def test_gradients_that_are_consumed_are_not_planned_for():
    ws, x = [jnp.ones((WIDTH, WIDTH))] * LAYERS, jnp.ones((8, WIDTH))
    ordinary_plan = cg.value_and_grad(chain).plan(ws, x)
    consuming = cg.apply_gradients(chain, optax.sgd(0.1)).plan(ws, (optax.EmptyState(),) * 2, x)
    assert ordinary_plan.program.gradient_bytes == LAYERS * WEIGHT
    assert consuming.program.gradient_bytes == WEIGHT
    # Of activations, which are small, some lie in gradients that come later.
    few = 4 * x.nbytes
    assert ordinary_plan.peak_bytes - consuming.peak_bytes == pytest.approx((LAYERS - 1) * WEIGHT, abs=few)


def test_a_step_holds_one_gradient_at_a_time_wherever_its_stages_are_kept_apart():
    optimizer = optax.adam(1e-3)
    ws, x = [jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)] * LAYERS, jax.ShapeDtypeStruct((256, WIDTH), jnp.float32)
    state = jax.eval_shape(optimizer.init, ws)
    step = cg.apply_gradients(chain, optimizer, budget="min")
    found = cg.certify(step, ws, state, x, donate_argnums=(0, 1))
    activation = 256 * WIDTH * 4
    # Of activations the smallest plan holds a few, of gradients one.
    assert found.temporary_bytes < 5 * activation + 2 * WEIGHT


@pytest.mark.parametrize("optimizer", [optax.adafactor(1e-2), optax.lamb(1e-2)], ids=["adafactor", "lamb"])
def test_a_step_is_smaller_by_most_gradients_where_the_compiler_holds_all_of_them(optimizer):
    """Norms of whole parameters keep XLA from updating one before the gradients of all are there."""
    ws, x = [jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)] * LAYERS, jax.ShapeDtypeStruct((8, WIDTH), jnp.float32)
    state = jax.eval_shape(optimizer.init, ws)

    def step(ws, state, x):
        value, gradient = jax.value_and_grad(chain)(ws, x)
        changes, state = optimizer.update(gradient, state, ws)
        return optax.apply_updates(ws, changes), state, value

    holding, consuming = (
        cg.certify(step, ws, state, x, donate_argnums=(0, 1)).temporary_bytes
        for step in (step, cg.apply_gradients(chain, optimizer))
    )
    assert holding > LAYERS * WEIGHT
    # What an update works on takes a few times its gradient.
    assert consuming < 6 * WEIGHT
