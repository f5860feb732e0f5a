"""Loops over chunks cost the bytes of one chunk and the seconds of all."""

from dataclasses import replace

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.axes.chunked import chunkable
from ckptgrad.chunks.chunk_loop import ChunkLoop
from ckptgrad.chunks.costs import backward_turn, forward_turn
from ckptgrad.target.roofline import Roofline

ROOFLINE = Roofline(cg.target("cpu"))


def loop(entries, function=lambda w, x: jnp.tanh(x @ w) @ w.T):
    graph = cg.trace(function, jnp.ones((16, 1024)), jnp.ones((64, 16)))
    found = chunkable(graph, {graph.inputs[1]: 0})
    return ChunkLoop(found, entries, tuple(True for _ in found.inputs), (True,))


def test_a_forward_holds_what_one_chunk_holds():
    """The part that is read and the hidden layer, of so many entries."""
    assert forward_turn(loop(32)).cost(loop(32), ROOFLINE).bytes == 2 * forward_turn(loop(16)).cost(loop(16), ROOFLINE).bytes


def test_a_backward_holds_more_than_a_forward_and_takes_longer():
    forward, backward = forward_turn(loop(8)).cost(loop(8), ROOFLINE), backward_turn(loop(8)).cost(loop(8), ROOFLINE)
    assert backward.bytes > forward.bytes
    assert backward.seconds > forward.seconds


def test_many_chunks_take_longer_to_start():
    assert backward_turn(loop(1)).cost(loop(1), ROOFLINE).seconds > backward_turn(loop(32)).cost(loop(32), ROOFLINE).seconds


def test_products_that_are_added_to_a_total_as_they_come_take_no_memory():
    """The gradient of what all chunks read, 16 x 1024 numbers, is held with a layer, or else a layer with its gradient."""
    cpu = ROOFLINE.target
    adding = Roofline(replace(cpu, platform=replace(cpu.platform, adds_products=True)))
    layer = loop(8, lambda w, x: jnp.tanh(x @ w))
    apart, at_once = (backward_turn(layer).cost(layer, roofline).bytes for roofline in (ROOFLINE, adding))
    assert apart == 4 * (2 * 8 * 16 + 8 * 1024 + 16 * 1024)
    assert at_once == 4 * (8 * 16 + 8 * 1024 + 8 * 1024)


def test_what_a_turn_holds_stays_near_where_the_compiler_places_it_there():
    """Half of it, if near memory has room for half: then half of what goes to memory and back does not."""
    cpu, chunks = ROOFLINE.target, loop(8)
    held = backward_turn(chunks).cost(chunks, ROOFLINE).bytes

    def seconds(near, room):
        rates = replace(cpu.rates, cache=room)
        target = replace(cpu, platform=replace(cpu.platform, near_memory=near), rates=rates)
        return backward_turn(chunks).cost(chunks, Roofline(target)).seconds

    far, near = seconds(True, 1e-3), seconds(True, held)
    assert near < far == pytest.approx(seconds(False, held))
    assert seconds(True, held / 2) == pytest.approx((near + far) / 2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_what_near_memory_has_room_for_takes_no_bytes(dtype):
    """Totals that are carried in a wider dtype included; chunks are cut to fit into it."""
    graph = cg.trace(lambda w, x: jnp.tanh(x @ w), jnp.ones((16, 1024), dtype), jnp.ones((64, 16), dtype))
    chunks = ChunkLoop(chunkable(graph, {graph.inputs[1]: 0}), 8, (True, True), (True,))
    cpu = ROOFLINE.target

    def bytes_(near, room):
        target = replace(cpu, platform=replace(cpu.platform, near_memory=near), rates=replace(cpu.rates, cache=room))
        return backward_turn(chunks).cost(chunks, Roofline(target)).bytes

    whole = bytes_(False, 4096)
    assert [bytes_(True, room) for room in (4096, whole, 2 * whole)] == [whole - 4096, 0, 0]
