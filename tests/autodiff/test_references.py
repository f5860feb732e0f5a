"""Mutable references made inside a differentiated function; those from outside are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg


@jax.custom_vjp
def seven_times(x):
    """Not the derivative, so that it is seen whether the rule was used."""
    ref = jax.new_ref(x)
    ref[...] = jnp.sin(ref[...])
    return jax.ref.freeze(ref)


seven_times.defvjp(lambda x: (seven_times(x), None), lambda _, g: (7 * g,))


@jax.custom_jvp
def three_times(x):
    return seven_times(x)


three_times.defjvp(lambda p, t: (three_times(*p), 3 * t[0]))


def read_and_written(x):
    ref = jax.new_ref(x)
    ref[...] = jnp.sin(ref[...]) * x
    return ref[...] * x


def swapped(x):
    ref = jax.new_ref(x)
    return jax.ref.swap(ref, ..., jnp.sin(x)) * ref[...]


def indexed(x):
    ref = jax.new_ref(jnp.zeros((3, 5)))
    ref[0, 1:3] = x * jnp.ones(2)
    ref[jnp.array([0, 2, 2]), 4] = jnp.array([2.0, 0.0, 3.0]) * x
    jax.ref.addupdate(ref, (jnp.array([1, 1]), 0), x * jnp.array([2.0, 3.0]))
    ref[jnp.int32(7), jnp.int32(3)] = x**2  # the last row: single integers are kept within bounds
    ref[1:2, ::2] += x
    ref.at[2][1:3] = x * jnp.arange(2.0)
    return jnp.sum(ref[...] ** 2) + ref[jnp.array([0, 1]), 1:3][1, 1] + x * ref[2, -1]


def given_to_a_jit(x):
    @jax.jit
    def update(ref, x):
        ref[...] = jnp.sin(x) * ref[...]

    ref = jax.new_ref(2 * x)
    update(ref, x)
    return ref[...]


def in_a_scan(x):
    ref, total = jax.new_ref(jnp.zeros(4)), jax.new_ref(x)

    def step(c, i):
        ref[i] = jnp.sin(c * x)
        jax.ref.addupdate(total, ..., c * ref[i // 2])
        return c + ref[i], total[...]

    c, ys = lax.scan(step, x, jnp.arange(4))
    return c + jax.ref.freeze(ref).sum() + total[...] + ys @ jnp.arange(4.0)


def scanned_over(x):
    ref = jax.new_ref(jnp.zeros(3))

    def step(c, row):
        here, y = row
        here[...] += y * c
        return c + here[...], None

    c, _ = lax.scan(step, x, (ref, x * jnp.arange(3.0)), reverse=True)
    return c + (jax.ref.freeze(ref) ** 2).sum()


def made_in_a_scan(x):
    def step(c, _):
        ref = jax.new_ref(c)
        ref[...] *= x
        return jnp.sin(jax.ref.freeze(ref)), None

    return lax.scan(step, x, None, length=3)[0]


def in_branches(x):
    ref = jax.new_ref(x)

    def square():
        ref[...] = ref[...] ** 2

    def triple():
        ref[...] = ref[...] * 3

    lax.cond(x > 1, square, triple)
    lax.switch(0, [triple, square])
    return ref[...] * x


def in_a_fori_loop(x):
    ref = jax.new_ref(x)

    def step(i, _):
        ref[...] = ref[...] * x

    lax.fori_loop(0, 3, step, None)
    return ref[...]


def custom_rules_around(x):
    ref = jax.new_ref(x)

    def step(_, i):
        ref[...] = seven_times(ref[...]) + three_times(x)
        return None, None

    lax.scan(step, None, jnp.arange(2))
    return ref[...]


def without_derivative(x):
    ref = jax.new_ref(x, kind="no_grad_no_remat")
    ref[...] *= x
    return ref[...] * x


def integers(x):
    ref = jax.new_ref(0)
    ref[...] += 2
    return x * ref[...]


def in_a_checkpoint(x):
    return jax.checkpoint(swapped)(x) * 2


def batched(x):
    ref = jax.new_ref(x * jnp.arange(3.0))
    return jax.vmap(lambda i: ref[i] * x)(jnp.arange(3)).sum()


FUNCTIONS = [
    read_and_written, swapped, indexed, given_to_a_jit, in_a_scan, scanned_over, made_in_a_scan, in_branches,
    in_a_fori_loop, custom_rules_around, without_derivative, integers, in_a_checkpoint, batched,
]  # fmt: skip
# What the rules of `seven_times` and `three_times` make of two steps, and a value that counts as a constant.
OTHERWISE = {custom_rules_around: 7 * (7 + 3) + 3, without_derivative: 1.3**2}


@pytest.mark.parametrize("fun", FUNCTIONS)
def test_as_finite_differences(fun):
    with jax.enable_x64():
        x = jnp.float64(1.3)
        f = jax.jit(fun)
        wanted = OTHERWISE[fun] if fun in OTHERWISE else (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
        np.testing.assert_allclose(jax.jit(cg.grad(fun))(x), wanted, rtol=1e-7)


@pytest.mark.parametrize("fun", [in_branches, pytest.param(in_a_scan, marks=pytest.mark.slow)])
def test_in_forward_mode_and_under_vmap(fun):
    wanted = cg.grad(fun)(1.3)
    np.testing.assert_allclose(cg.jvp(fun, (1.3,), (1.0,))[1], wanted, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(cg.grad(fun))(jnp.array([1.3, 0.4]))[0], wanted, rtol=1e-5)


def test_through_a_while_loop():
    def doubled(x):
        ref = jax.new_ref(x)

        def step(i):
            ref[...] *= x
            return i + 1

        lax.while_loop(lambda i: ref[...] < 9, step, 0)
        return ref[...]

    assert cg.grad(doubled)(2.0) == 4 * 2.0**3


def captured(x):
    return x * OUTSIDE[...]


OUTSIDE = jax.new_ref(3.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: cg.grad(captured)(1.0),
        lambda: cg.grad(lambda x, ref: x * ref[...])(1.0, OUTSIDE),
        lambda: cg.jvp(captured, (1.0,), (1.0,)),
        lambda: cg.vjp(lambda ref: ref[...], OUTSIDE),
    ],
)
def test_from_outside_is_refused(call):
    with pytest.raises(TypeError, match=r"from outside.*test_references.py.*Move the array reference inside") as caught:
        call()
    assert isinstance(caught.value, cg.CkptgradError)
