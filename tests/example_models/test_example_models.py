"""The example models: what they are made of, traced and not run where that is enough."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad import example_models as models
from tests.support.compare import assert_same, quick

# Sizes at which a trace is short, and the number of blocks to which `wrap` is applied.
SMALL = {
    "tanh": ({"layers": 3, "width": 4, "batch": 2}, 3),
    "gelu": ({"layers": 3, "width": 4, "hidden": 8, "batch": 2}, 3),
    "transformer": ({"blocks": 2, "width": 4, "heads": 2, "context": 3, "batch": 2, "vocabulary": 5}, 2),
    "bfloat16": ({"blocks": 2, "width": 4, "heads": 2, "context": 3, "batch": 2, "vocabulary": 5}, 2),
    "resnet": ({"counts": (1, 2), "width": 8, "size": 8, "batch": 2}, 3),
    "unet": ({"levels": 2, "width": 2, "size": 8, "batch": 2}, 4),
    "mixed": ({"widths": (3, 5, 2, 4), "batch": 2}, 3),
    "recurrent": ({"steps": 3, "width": 4, "batch": 2}, 3),
    "tied": ({"layers": 3, "width": 4, "batch": 6, "vocabulary": 5}, 3),
    "mixer": ({"layers": 2, "width": 4, "patches": 3, "batch": 2}, 2),
}


def test_every_model_of_the_sweep_is_here():
    assert {*SMALL} == {*models.SWEEP}


@pytest.mark.parametrize("name", SMALL)
def test_a_model_is_a_scalar_loss_with_its_arguments(name):
    """And `wrap` sees each block."""
    make, calls = models.SWEEP[name][0], []

    def wrap(block):
        return lambda *args: calls.append(block) or block(*args)

    sizes, blocks = SMALL[name]
    loss, args = make(**sizes, wrap=wrap)
    out = jax.eval_shape(loss, *args)
    assert (out.shape, out.dtype) == ((), jnp.float32)
    assert len(calls) == blocks
    dtypes = {x.dtype for x in jax.tree.leaves(args[0])}
    assert dtypes == {jnp.dtype(jnp.bfloat16 if name == "bfloat16" else jnp.float32)}


@pytest.mark.parametrize("make", [models.gelu_stack, pytest.param(models.transformer, marks=pytest.mark.slow)])
def test_scanned_layers_compute_what_unrolled_ones_do(make):
    sizes = {"layers": 4} if make is models.gelu_stack else {"blocks": 4}
    sizes |= SMALL["gelu" if make is models.gelu_stack else "transformer"][0] | sizes
    (plain, args), (scanned, stacked) = make(**sizes), make(**sizes, scanned=True, segment=2)
    assert_same(*quick(lambda: (scanned(*stacked), plain(*args)))(), scale=8)
    names = {eqn.primitive.name for eqn in jax.make_jaxpr(scanned)(*stacked).eqns}
    assert "scan" in names
