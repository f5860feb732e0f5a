"""The referee refuses every kind of bad schedule, and counts as the actions' sentences say."""

from __future__ import annotations

import pytest

from ckptgrad.errors import ScheduleError
from ckptgrad.planning import Backward, ChainCosts, Forward, Free, SaveOption, Schedule, StageCost
from ckptgrad.planning.ledger import follow
from ckptgrad.planning.referee import simulate

F, B, X = Forward, Backward, Free

READS = ChainCosts(
    (
        StageCost((SaveOption("input", 1, True, False, 2.0, 3.0, 5, 7, 9, 0.75),), 10, 11, 1.0, 13),
        StageCost((SaveOption("output", 2, False, True, 2.0, 3.0),), 20, 21, 1.0),
    ),
    input_bytes=100,
    input_cotangent_bytes=101,
    held_bytes=1000,
)
GOOD = [F(0, 0), F(1, 0), X(1), B(1), B(0), X(0)]


def run(*actions):
    return simulate(Schedule(actions, "test"), READS)


def test_bytes_and_seconds_of_each_action():
    simulation = run(*GOOD)
    start = 1000 + 100 + 21
    after_first = start + 10 + 1
    after_second = after_first + 20 + 2
    after_free = after_second - 10
    after_backward = after_free + 11 - 21 - 2
    assert simulation.timeline == (
        start + 10 + 1 + 5,
        after_second,
        after_free,
        after_free + 11,
        after_backward + 101 + 7,
        after_backward + 101 - 11 - 1 - 100,
    )
    assert simulation.peak == max(simulation.timeline)
    assert simulation.timeline[simulation.peak_at] == simulation.peak
    assert simulation.time == 2 + 2 + 3 + 3
    assert (simulation.forwards, simulation.recomputations) == (2, 0)


def test_without_an_output_hidden_bytes_are_charged_and_its_time_is_not():
    before = [F(0), F(1, 0), X(1), B(1)]
    after_backward = 1000 + 100 + 20 + 11
    hiding = run(*before, F(0, 0, output=False), B(0), X(0))
    assert hiding.timeline[4] == after_backward + 1 + 5 + 9
    assert hiding.timeline[5] == after_backward + 101 + 1 + 7
    producing = run(*before, F(0, 0), X(1), B(0), X(0))
    assert producing.timeline[4] == after_backward + 1 + 5 + 10
    assert hiding.recomputations == producing.recomputations == 1
    assert (hiding.time, producing.time) == (1 + 2 + 3 + 2 - 0.75 + 3, 1 + 2 + 3 + 2 + 3)


def test_a_recomputed_boundary_is_counted_twice_only_while_it_is_replaced():
    simulation = run(F(0), F(0, 0), F(1, 0), X(1), B(1), B(0), X(0))
    start = 1000 + 100 + 21
    assert simulation.timeline[0] == start + 10 + 13
    assert simulation.timeline[1] == start + 10 + 10 + 1 + 5
    assert simulation.timeline[2] == start + 10 + 1 + 20 + 2


@pytest.mark.parametrize(
    ("actions", "index", "words"),
    [
        ([], None, "backward of stage 1 is missing"),
        ([F(0, 0), F(1, 0), X(1), B(1)], None, "backward of stage 0 is missing"),
        ([F(1, 0)], 0, "boundary 1, is not held"),
        ([F(0), X(1), F(1, 0)], 2, "boundary 1, is not held"),
        ([F(0, 1)], 0, "no save option 1"),
        ([F(0, None, False)], 0, "neither residuals nor its output"),
        ([F(0, 0), F(0, 0)], 1, "held already"),
        ([F(2)], 0, "no stage 2"),
        ([F(-1)], 0, "no stage -1"),
        ([B(2)], 0, "no stage 2"),
        ([F(0, 0), B(0)], 1, "needs the cotangent of boundary 1"),
        ([F(0), B(1)], 1, "residuals of stage 1 are not held"),
        ([F(0, 0), F(1, 0), B(1), B(1)], 3, "needs the cotangent of boundary 2"),
        ([F(0, 0), F(1, 0, False), B(1)], 2, "reads the output, boundary 2"),
        ([F(0, 0), F(1, 0), X(2), B(1)], 3, "reads the output, boundary 2"),
        ([F(0, 0), X(0), F(1, 0), B(1), B(0)], 4, "reads the input, boundary 0"),
        ([X(1)], 0, "boundary 1 is not held"),
        ([*GOOD, X(0)], 6, "boundary 0 is not held"),
        ([F(0, 0), F(1, 0), B(1), F(1, 0)], 3, "has been differentiated"),
        (GOOD[:-1], None, r"boundaries \[0\] are still held"),
        ([*GOOD, X(2)], None, "result, boundary 2, is not held"),
        (["F0"], 0, "not an action"),
        ([*GOOD[:2], None], 2, "not an action"),
        ([F("0", 0)], 0, "not an action"),
        ([F(0.0, 0)], 0, "not an action"),
        ([F(0, True)], 0, "not an action"),
        ([F(0, 0, "yes")], 0, "not an action"),
        ([*GOOD[:3], B([1])], 3, "not an action"),
        ([X(None)], 0, "not an action"),
    ],
)
def test_bad_schedules_are_refused(actions, index, words):
    with pytest.raises(ScheduleError, match=words) as caught:
        run(*actions)
    assert caught.value.index == index
    assert caught.value.action == (None if index is None else actions[index])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("F0:0 >1 F1:0", "boundary 1, is not held"),
        ("F0:0 >1 >1", "boundary 1 is not held"),
        ("F0:0 >0", "the caller's"),
        ("F0:0 F1:0 >2", "the caller's"),
        ("F0:0 <1", "not on tier 0"),
        ("F0:0 >1 <1:1", "not on tier 1"),
        ("F0:0 >1 <1 <1", "held already"),
        ("F0:0 >1 <1 >1:1", "on tier 0 already"),
        ("F0:0 F1:0 >1 <1 B1 B0 -0", "still on a tier"),
    ],
)
def test_transfers_that_cannot_be_are_refused(text, complaint):
    costs = ChainCosts.uniform(2, reads_input=True)
    with pytest.raises(ScheduleError, match=complaint):
        simulate(Schedule.parse(text.split(), "test"), costs)


def test_what_is_sent_is_held_no_longer():
    costs = ChainCosts.uniform(3, residual_bytes=0, reads_input=True)
    schedule = Schedule.parse(["F0:0", "F1:0", ">1", "F2:0", "B2", "-2", "<1", "B1", "-1", "B0", "-0"], "sent")
    held = [*simulate(schedule, costs).timeline]
    assert held == [balance.stored.total + balance.transients for balance in follow(costs, schedule)]
    assert held[:7] == [3, 4, 4, 4, 5, 3, 4]
