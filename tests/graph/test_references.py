"""Mutable references made inside a differentiated function; those from outside are read and written, not differentiated."""

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


def counted(x, ref):
    """A loop and a jit read and write a reference; no derivative reaches what it holds."""

    @jax.jit
    def first(x):
        ref[0] += 1.0
        return x * ref[0]

    def step(c, _):
        ref[1] += 2.0
        return jnp.sin(c * ref[1]), None

    return lax.scan(step, first(x), None, length=2)[0]


def held_after(call):
    """What a call returns, and what it leaves in the reference that it is given."""
    ref = jax.new_ref(jnp.arange(3.0))
    return call(ref), np.asarray(ref[...])


@pytest.mark.parametrize(
    "call",
    [
        lambda engine, ref: engine.grad(counted)(2.0, ref),
        lambda engine, ref: jax.jit(lambda x, ref: engine.grad(counted)(x, ref))(2.0, ref),
        lambda engine, ref: engine.vjp(lambda x: counted(x, ref), 2.0)[1](1.0),
        lambda engine, ref: engine.jvp(lambda x: counted(x, ref), (2.0,), (1.0,)),
        *(
            pytest.param(call, marks=pytest.mark.slow)
            for call in (
                lambda engine, ref: engine.linearize(lambda x: counted(x, ref), 2.0)[1](1.0),
                lambda engine, ref: [engine.value_and_grad(lambda x: counted(x, ref))(x) for x in (2.0, 1.0)],
                lambda engine, ref: engine.grad(engine.grad(counted))(2.0, ref),
                lambda engine, ref: engine.jacrev(counted)(2.0, ref),
            )
        ),
    ],
)
def test_from_outside_as_jax(call):
    (ours, left), (theirs, wanted) = (held_after(lambda ref, engine=engine: call(engine, ref)) for engine in (cg, jax))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)
    np.testing.assert_array_equal(left, wanted)
    assert left[1] != 1


def test_a_compiled_gradient_goes_on_from_what_it_left():
    ref = jax.new_ref(jnp.arange(3.0))
    compiled = cg.grad(counted).compile(2.0, ref)
    assert ref[1] == 1  # compiling runs nothing
    found = [compiled(2.0, ref), compiled(2.0, ref)]
    wanted, left = held_after(lambda ref: [jax.grad(counted)(2.0, ref) for _ in range(2)])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_array_equal(ref[...], left)


def test_a_reference_of_an_outer_function():
    def outer(x):
        ref = jax.new_ref(x)
        return cg.grad(lambda y: y**2 * ref[...])(3.0) * ref[...]

    assert cg.grad(outer)(2.0) == 6 * 2 * 2.0


def test_what_is_put_in_a_reference_without_derivatives():
    ref = jax.new_ref(1.0, kind="no_grad_no_remat")

    def kept(x):
        ref[...] = x**2
        return x * ref[...]

    assert cg.grad(kept)(3.0) == 9
    assert ref[...] == 9


def test_validation_needs_a_function_that_can_be_repeated():
    ref = jax.new_ref(jnp.arange(3.0))
    with pytest.raises(TypeError, match="no run repeats another"):
        cg.validate(counted, 2.0, ref, meters="none")


def kept(x):
    OUTSIDE[...] = x**2
    return x


def kept_by_a_loop(x):
    def step(c, _):
        OUTSIDE[...] += c
        return c, None

    return lax.scan(step, x, None, length=2)[0]


def kept_by_a_custom_rule(x):
    @jax.custom_jvp
    def straight_through(x):
        return jnp.round(x)

    straight_through.defjvps(lambda t, y, x: t)
    OUTSIDE[...] = straight_through(x)
    return x


def given_to_a_custom_rule(x):
    @jax.custom_vjp
    def stash(x, ref):
        return x

    stash.defvjp(lambda x, ref: (x, ref), lambda ref, g: (g, None))
    return stash(x, OUTSIDE)


OUTSIDE = jax.new_ref(3.0)
MOVE = "Move the array reference inside"
SET = "performing a set/swap operation with a differentiated value on a non-differentiated array reference.* of type Ref"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: cg.grad(lambda ref: ref[...])(OUTSIDE), "grad cannot differentiate with respect to a Ref"),
        (lambda: cg.vjp(lambda ref: ref[...], OUTSIDE), f"from outside.*test_references.py.*{MOVE}"),
        (lambda: cg.grad(given_to_a_custom_rule)(1.0), f"given to custom_vjp_call.*test_references.py.*{MOVE}"),
        (lambda: cg.grad(kept)(1.0), f"{SET}.*kept.*test_references.py.*{MOVE}"),
        (lambda: cg.grad(kept_by_a_loop)(1.0), SET),
        (lambda: cg.grad(kept_by_a_custom_rule)(1.0), SET),
        (lambda: cg.jvp(kept, (1.0,), (1.0,)), SET),
    ],
)
def test_what_is_refused(call, problem):
    with pytest.raises(TypeError, match=problem) as caught:
        call()
    assert isinstance(caught.value, cg.CkptgradError)
    assert OUTSIDE[...] == 3
