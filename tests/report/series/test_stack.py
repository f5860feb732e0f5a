"""A timeline as blocks: as high as what is held, and one block for each buffer that nothing moves."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

import ckptgrad as cg
from ckptgrad.meters.buffers import Buffer
from ckptgrad.report.series.stack import stack
from ckptgrad.results.lives import Life
from tests.cases.results import KIB, TIMELINE, moment
from tests.cases.tanh import tanh_arguments, tanh_loss


def held_at(blocks, x):
    return sum(block.top - block.bottom for block in blocks if block.left <= x < block.right)


def test_blocks_are_as_high_as_what_is_held():
    held = stack(TIMELINE)
    assert [held_at(held.blocks, x) / KIB for x in (0.1, 0.3, 0.6, 0.9)] == [6, 8, 16, 8]
    assert held.named == len(held.lives) == len(TIMELINE.lives)


def test_a_buffer_that_nothing_moves_is_one_block():
    """Above residuals that are held longer."""
    held = stack(TIMELINE)
    blocks = {life.buffer.kind: [b for b in held.blocks if held.lives[b.life] is life] for life in held.lives}
    assert [(b.left, b.right, b.bottom, b.top) for b in blocks["boundaries"]] == [(0.0, 0.8, 2 * KIB, 6 * KIB)]


def test_blocks_do_not_overlap():
    for budget in (None, "min"):
        course = cg.plan(tanh_loss, *tanh_arguments(8, 32), budget=budget).timeline()
        held = stack(course)
        for (start, end), m in zip(course.progress, course.moments, strict=True):
            if end > start:
                here = sorted((b.bottom, b.top) for b in held.blocks if b.left <= (start + end) / 2 < b.right)
                assert all(a[1] == b[0] for a, b in itertools.pairwise(here))
                assert here[-1][1] == m.total


def test_the_steps_of_a_loop_lower_what_is_scratch():
    course = replace(TIMELINE, moments=(moment("F0", 0.0, 4.0, ((2.0, 4 * KIB), (4.0, KIB)), transients=4),), lives=(
        Life(Buffer("transients", 4 * KIB, "inside the forward"), 0, 0),
    ))  # fmt: skip
    assert [(b.left, b.right, b.top) for b in stack(course).blocks] == [(0.0, 0.5, 4 * KIB), (0.5, 1.0, KIB)]


@pytest.mark.parametrize("most", [40, 8])
def test_of_very_many_the_smallest_are_joined(most):
    many = tuple(Life(Buffer("residuals", k + 1, f"op {k}"), 0, 3) for k in range(100))
    course = replace(TIMELINE, lives=many, moments=tuple(replace(m, bytes={"residuals": 5050}) for m in TIMELINE.moments))
    held = stack(course, most)
    assert len(held.blocks) <= most
    assert held.lives[-1].buffer.what == f"{100 - held.named} smaller buffers"
    assert min(life.buffer.bytes for life in held.lives[: held.named]) == 101 - held.named
    assert held_at(held.blocks, 0.5) == 5050
