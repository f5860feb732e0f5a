"""Segments of a chain: which are equal, and what their stages cost."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ckptgrad.planning import ChainCosts, SaveOption, StageCost
from ckptgrad.planning.optimal.segments import segments_of
from tests.support.chains import chains


@given(st.lists(st.integers(1, 3), min_size=1, max_size=9))
def test_segments_of_equal_stages_have_one_class(boundaries):
    """A stage's costs include its input's bytes, and the last stage has its result to hold."""
    option = SaveOption("all", 2, True, False, 1, 1)
    found = segments_of(ChainCosts([StageCost((option,), b, b, 1.0) for b in boundaries]))
    n = len(boundaries)
    kinds = [(before, after, i == n - 1) for i, (before, after) in enumerate(itertools.pairwise([0, *boundaries]))]
    segments = [(a, b) for a in range(n) for b in range(a, n)]
    for (a, b), (c, d) in itertools.combinations(segments, 2):
        assert (found.matrix[a, b] == found.matrix[c, d]) == (kinds[a : b + 1] == kinds[c : d + 1])


@given(chains(6))
def test_a_class_knows_its_ends_its_length_and_itself_without_either_end(costs):
    found = segments_of(costs)
    classes, n = found.classes, len(costs)
    for a in range(n):
        for b in range(a, n):
            k = found.matrix[a, b]
            assert (classes.first[k], classes.last[k], classes.length[k]) == (found.kind_of[a], found.kind_of[b], b - a + 1)
            tail, head = (found.matrix[a + 1, b], found.matrix[a, b - 1]) if b > a else (-1, -1)
            assert (classes.tail[k], classes.head[k]) == (tail, head)
            assert max(tail, head) < k
    assert classes.as_lists().length == classes.length.tolist()


def test_a_thousand_equal_layers_make_few_classes():
    option = SaveOption("all", 2, True, False, 1, 1)
    layer, other = StageCost((option,), 4, 4, 1.0), StageCost((option,), 4, 4, 2.0)
    found = segments_of(ChainCosts([other, *[layer] * 1000, other], input_bytes=4, input_cotangent_bytes=4))
    assert len(found.kinds.input) == 3
    assert len(found.classes.length) < 3100


def test_costs_of_a_kind_by_hand():
    """An option of 5 bytes whose forward needs 3 and backward 7, in a stage from 2 to 4 bytes; cotangents of 1."""
    option = SaveOption("all", 5, True, False, 1.5, 2.5, forward_transient=3, backward_transient=7)
    stage = StageCost((option,), 4, 1, 1.0, forward_transient=6)
    kinds = segments_of(ChainCosts((stage, StageCost((option,), 0, 1, 1.0)), input_bytes=2, input_cotangent_bytes=1)).kinds
    assert (kinds.input[0], kinds.output_cotangent[0], kinds.result[0]) == (2, 1, 0)
    assert kinds.sweep[0] == 4 + 6
    assert kinds.option_forward[0] == 5 + 4 + 3
    # Alone in its segment, the stage's output is not made.
    assert kinds.option_alone_forward[0] == 5 + 3
    assert kinds.option_between[0] == 5
    assert kinds.option_backward[0] == 1 + 1 + 7
    assert (kinds.option_time[0], kinds.forward_time[0]) == (4.0, 1.0)
    assert kinds.option_start == [0, 1, 2]
    assert all(isinstance(column, np.ndarray) for column in kinds.as_arrays())


def test_what_divides_all_bytes():
    option = SaveOption("all", 12, True, False, 1, 1, backward_transient=6)
    stages = [StageCost((option,), 18, 24, 1.0)] * 3
    assert segments_of(ChainCosts(stages, input_bytes=6)).divisor == 6
    # The chain's end is not divided.
    stages[-1] = StageCost((option,), 5, 24, 1.0)
    assert segments_of(ChainCosts(stages, input_bytes=6)).divisor == 6
    assert segments_of(ChainCosts([StageCost((SaveOption("none", 0, False, False, 1, 1),), 0, 0, 1.0)])).divisor == 1
