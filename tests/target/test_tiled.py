"""What values take where arrays are laid out in tiles: channels and batches of convolutions may not fill them."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.example_models.parts import conv, max_pool
from ckptgrad.target.target import described
from ckptgrad.target.tiled import pad_to_tiles
from tests.support.operations import graph_of

CPU, TPU = described("cpu"), described("tpu")
IMAGE = jnp.ones((16, 6, 6, 64), jnp.bfloat16)
KERNEL = jnp.ones((3, 3, 64, 64), jnp.bfloat16)


def elements(fun, *args, platform=TPU.platform):
    """How many times their elements results have memory for, by the name of what makes them: the most of each."""
    graph, operations, _ = graph_of(fun, *args)
    pad_to_tiles(operations, platform, graph.inputs)
    assert all(v.elements is None for v in graph.inputs)
    times = [(op.name, (op.outputs[0].elements or op.outputs[0].aval.size) / op.outputs[0].aval.size) for op in operations]
    return dict(sorted(times, key=lambda pair: pair[1]))


def channels_first(x, w):
    return lax.conv_general_dilated(x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), (1, 1), "SAME")


@pytest.mark.parametrize("function", [conv, channels_first])
@pytest.mark.parametrize(
    ("batch", "channels", "times"),
    [
        # Channels along the columns of tiles, the batch across.
        (16, 64, 2), (16, 128, 1), (16, 96, 128 / 96), (16, 256, 1), (12, 128, 16 / 12),
        # A batch that fills them is laid along them, unless channels do.
        (128, 64, 1), (64, 64, 2), (256, 96, 1),
        # Of few rows tiles are smaller.
        (2, 128, 1), (3, 128, 4 / 3),
    ],
)  # fmt: skip
def test_a_convolution_has_its_channels_and_its_batch_in_tiles(function, batch, channels, times):
    x, w = jnp.ones((batch, 6, 6, 8), jnp.bfloat16), jnp.ones((3, 3, 8, channels), jnp.bfloat16)
    assert elements(function, x, w)["conv_general_dilated"] == pytest.approx(times)


def test_what_is_made_of_it_element_by_element_lies_alike():
    def norm(x, w):
        y = conv(x, w)
        groups = y.reshape(16, 36, 32, 2)
        return jnp.tanh(groups - groups.mean((1, 3), keepdims=True)).reshape(y.shape).astype(jnp.float32)

    times = elements(norm, IMAGE, KERNEL)
    assert {n for n, k in times.items() if k == 2} == {
        "conv_general_dilated", "reshape", "sub", "tanh", "convert_element_type",
    }  # fmt: skip


def test_windows_slide_over_the_other_axes():
    assert elements(lambda x: max_pool(x * 2), IMAGE)["reduce_window_max"] == 2
    # Of windows over one axis it is not known which of the others are in tiles.
    assert elements(lambda x: lax.cumsum(x, 1), IMAGE) == {"cumsum": 1}


def test_other_arrays_fill_their_tiles_and_elsewhere_there_are_none():
    assert {*elements(lambda x, w: jnp.tanh(x @ w), jnp.ones((16, 64)), jnp.ones((64, 64))).values()} == {1}
    assert {*elements(conv, IMAGE, KERNEL, platform=CPU.platform).values()} == {1}


def test_stages_are_priced_by_what_they_take_there():
    """Boundaries, residuals and gradients of kernels twice, what a program is given once."""

    def loss(ws, x):
        for w in ws:
            x = jnp.tanh(conv(x, w))
        return jnp.square(x.astype(jnp.float32)).sum()

    ws = [KERNEL] * 3
    here, there = (cg.plan(loss, ws, IMAGE, target=t, costs="estimate", policy="store_all") for t in (CPU, TPU))
    image, kernel = IMAGE.nbytes, KERNEL.nbytes
    assert [s.boundary_bytes for s in here.costs.stages[:-1]] == [image] * (len(here.costs) - 1)
    assert [s.boundary_bytes for s in there.costs.stages[:-1]] == [2 * image] * (len(there.costs) - 1)
    assert (here.program.gradient_bytes, there.program.gradient_bytes) == (3 * kernel, 6 * kernel)
    assert {*there.program.argument_bytes.values()} == {3 * kernel, image}
    value = there.program.stages[0].boundary_out
    assert (TPU.total_bytes(value), TPU.moved_bytes(value)) == (2 * image, image)
