"""Outputs are buffers of the program, each of them: predicted bytes are never below what XLA allocates for them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.target.allocated import compiled_memory

N = 100_000
X, Z = jnp.ones(N), jnp.full(N, 2.0)
CONSTANT = jnp.arange(float(N))
# What is returned as aux beside the loss, and how many arrays of N numbers that is.
AUX = {
    "nothing": (lambda x, y, z: (), 0),
    "a value": (lambda x, y, z: y, 1),
    "a value twice": (lambda x, y, z: (y, y), 2),
    "a value three times": (lambda x, y, z: [y, {"a": y, "b": y}], 3),
    "an argument": (lambda x, y, z: z, 1),
    "an argument twice": (lambda x, y, z: (x, x), 2),
    "the argument differentiated": (lambda x, y, z: x, 1),
    "a constant": (lambda x, y, z: CONSTANT, 1),
    "a constant twice": (lambda x, y, z: (CONSTANT, CONSTANT), 2),
    "an array of NumPy": (lambda x, y, z: np.ones(N, np.float32), 1),
    "zeros": (lambda x, y, z: jnp.zeros(N), 1),
    "a view": (lambda x, y, z: (y, y.reshape(100, N // 100)), 2),
    "without gradient": (lambda x, y, z: (y, jax.lax.stop_gradient(y)), 2),
}


@pytest.mark.parametrize(("aux", "arrays"), AUX.values(), ids=AUX)
def test_each_output_is_counted(aux, arrays):
    def loss(x, z):
        y = jnp.sin(x)
        return jnp.sum(y * y * z), aux(x, y, z)

    door = cg.value_and_grad(loss, has_aux=True)
    plan = door.plan(X, Z)
    assert 4 * N * arrays <= plan.program.output_bytes <= 4 * N * arrays + 8
    memory = compiled_memory(jax.jit(door).lower(X, Z).compile())
    # Few bytes besides: scalars, and how buffers are aligned.
    assert memory.peak_bytes <= plan.peak_bytes + 512
    assert memory.output_bytes <= plan.program.output_bytes + plan.program.gradient_bytes + 512
    course = plan.timeline()
    assert sum(b.bytes for b in course.alive) == plan.peak_bytes


def test_the_value_as_aux_too():
    """The smallest case: one scalar, twice."""

    def loss(x):
        y = jnp.sum(jnp.sin(x))
        return y, y

    assert cg.plan(loss, X, has_aux=True).program.output_bytes == 8


def test_a_budget_holds_with_an_output_twice():
    def loss(x):
        y = jnp.sin(x)
        return jnp.sum(y), (y, y)

    least = cg.plan(loss, X, has_aux=True, budget="min").budget
    jitted = jax.jit(cg.grad(loss, has_aux=True, budget=least))
    assert compiled_memory(jitted.lower(X).compile()).peak_bytes <= least + 512
