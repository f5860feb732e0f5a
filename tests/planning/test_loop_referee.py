"""The referee of loops against hand counts and a walk that is written out."""

from __future__ import annotations

from functools import cache

import pytest

from ckptgrad.planning.loop_referee import offline_starts, online_starts, steps_run


@pytest.mark.parametrize(
    ("groups", "slots", "starts"),
    [
        (0, 3, []),
        (1, 3, [0]),
        (4, 4, [0, 1, 2, 3]),
        (4, 9, [0, 1, 2, 3]),
        (10, 1, [0]),
        # C(2 + 2, 2) = 6 steps of two checkpoints run twice again at most: the second stands after three.
        (6, 2, [0, 3]),
        (10, 3, [0, 4, 7]),
    ],
)
def test_checkpoints_of_a_known_length(groups, slots, starts):
    assert offline_starts(groups, slots) == starts


@pytest.mark.parametrize(
    ("groups", "slots", "starts"),
    [(0, 3, []), (1, 3, [0]), (5, 1, [0]), (3, 3, [0, 1, 2]), (4, 3, [0, 1, 3]), (5, 3, [0, 3, 4]), (7, 2, [0, 6])],
)
def test_checkpoints_of_a_length_that_is_found_out(groups, slots, starts):
    assert online_starts(groups, slots) == starts


@pytest.mark.parametrize(
    ("length", "slots", "group", "starts", "steps"),
    [
        # Each step once, and once more for its backward.
        (1, 1, 1, [0], 1 + 1),
        (4, 4, 1, [0, 1, 2, 3], 4 + 4),
        # From the start for each backward: 3 + 2 + 1 steps to get there.
        (4, 1, 1, [0], 4 + 6 + 4),
        # Groups: one run through for the first, the last of them shorter.
        (4, 2, 2, [0, 1], 4 + 4),
        (3, 2, 2, [0, 1], 3 + 3),
        (5, 1, 2, [0], 5 + (4 + 2) + 5),
        # From the checkpoint in the middle; its slot then serves the first half.
        (4, 2, 1, [0, 2], 4 + (1 + 0) + (1 + 0) + 4),
    ],
)
def test_steps_are_counted(length, slots, group, starts, steps):
    groups = -(-length // group)
    assert steps_run(length, slots, group, starts) == steps
    assert steps_run(length, slots, group, starts, last_of_group=False) == steps - groups


@cache
def fewest_forwards(steps: int, checkpoints: int) -> int:
    """Forwards to reach each step but not to run its backward, by trying every place of the next checkpoint."""
    if checkpoints == 1 or steps == 1:
        return steps * (steps - 1) // 2
    return min(
        at + fewest_forwards(steps - at, checkpoints - 1) + fewest_forwards(at, checkpoints) for at in range(1, steps)
    )


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
def test_a_known_length_takes_the_fewest_forwards(slots):
    for length in range(1, 60):
        starts = offline_starts(length, slots)
        # The first pass runs on from the last checkpoint to the end, which a reversal by itself need not.
        first_pass = length - starts[-1]
        assert steps_run(length, slots, 1, starts) == length + first_pass + fewest_forwards(length, slots)
