"""What encodings are said to save is what codes of the values that are kept take."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import ckptgrad as cg

SQUARE = jax.ShapeDtypeStruct((512, 512), "float32")


def masked(ws, x):
    for w in ws:
        x = cg.stage(lambda w, x: x + jax.nn.relu(x @ w))(w, x)
    return jnp.sum(x**2)


def said(function, **options):
    plan = cg.value_and_grad(function, costs="estimate", policy="store_all", **options).plan([SQUARE] * 3, SQUARE)
    return plan, [advice for advice in plan.advice if advice.kind == "encodings"]


def test_masks_that_are_kept_as_bits_take_what_is_said():
    plan, (advice,) = said(masked)
    figures = advice.figures
    masks = [b for b in plan.at_peak.held if b.dtype == "bool"]
    assert figures["bytes"] == sum(b.bytes for b in masks) == len(masks) * 512 * 512
    assert figures["encoded_bytes"] * 8 == figures["bytes"]
    encoded, none = said(masked, encodings="bits")
    assert none == []
    kinds = [stage.kind for stage in encoded.program.stages]
    codes = [{v.nbytes for o in kind.options for v in o.partition.residuals if v.dtype == np.uint8} for kind in kinds]
    assert sum(map(sum, codes)) == figures["encoded_bytes"]


def test_where_no_masks_are_kept_nothing_is_said():
    def smooth(ws, x):
        for w in ws:
            x = cg.stage(lambda w, x: x + jnp.tanh(x @ w))(w, x)
        return jnp.sum(x**2)

    assert said(smooth)[1] == []
