"""Simulated time with transfers."""

from __future__ import annotations

import pytest

from ckptgrad.planning import ChainCosts, Schedule, get_policy, simulate
from ckptgrad.planning.makespan import Rates, simulate_makespan

COSTS = ChainCosts.uniform(3, residual_bytes=0, reads_input=True)
SENT = Schedule.parse(["F0:0", "F1:0", ">1", "F2:0", ">2", "B2", "<2", "-2", "<1", "B1", "-1", "B0", "-0"], "sent")


@pytest.mark.parametrize("policy", ["store_all", "recompute_all", "revolve"])
def test_without_transfers_it_is_the_sum(policy):
    schedule = get_policy(policy)(COSTS, None)
    assert simulate_makespan(COSTS, schedule, [], 10**6).seconds == simulate(schedule, COSTS).time


def test_transfers_go_on_beside_computation_as_far_as_that_does_not_wait_for_them():
    schedule = Schedule.parse(["F0:0", "F1:0", ">1", "F2:0", "B2", "-2", "<1", "B1", "-1", "B0", "-0"], "sent")
    assert simulate(schedule, COSTS).time == 6
    assert simulate_makespan(COSTS, schedule, [Rates(1e9, 1e9)], 99).seconds == pytest.approx(6)
    # Made at 1, sent until 3, fetched until 7; then two backwards.
    slow = simulate_makespan(COSTS, schedule, [Rates(0.5, 0.25)], 99)
    assert (slow.seconds, slow.sending, slow.fetching) == (9, 2, 4)
    assert simulate_makespan(COSTS, schedule, [Rates(1e9, 1e9, latency=2)], 99).seconds == pytest.approx(7)


def test_a_full_device_waits_for_what_is_sent():
    schedule = Schedule.parse(["F0:0", "F1:0", ">1", "F2:0", "B2", "-2", "<1", "B1", "-1", "B0", "-0"], "sent")
    tight = simulate(schedule, COSTS).peak
    assert simulate_makespan(COSTS, schedule, [Rates(0.1, 1e9)], tight).seconds > 12


def test_what_a_tier_has_is_not_sent_again():
    schedule = Schedule.parse(["F0:0", "F1:0", ">1", "<1", ">1", "F2:0", "B2", "-2", "<1", "B1", "-1", "B0", "-0"], "sent")
    assert simulate_makespan(COSTS, schedule, [Rates(1.0, 1.0)], 99).sending == 1


def test_what_was_freed_and_made_again_is_sent_again():
    schedule = Schedule.parse(
        ["F0", "F1:0", ">1", "-1", "F0", ">1", "F2:0", "B2", "-2", "<1", "B1", "-1", "F0:0", "-1", "B0", "-0"], "sent"
    )
    assert schedule.sent == 2
    assert simulate_makespan(COSTS, schedule, [Rates(1.0, 1.0)], 99).sending == 2


def test_computation_beside_a_transfer_takes_longer():
    schedule = Schedule.parse(["F0:0", "F1:0", ">1", "F2:0", "B2", "-2", "<1", "B1", "-1", "B0", "-0"], "sent")
    # Sent from 1 to 5, and beside that F1 and F2 at half the speed; the three backwards come then.
    rates = Rates(0.25, 1e9, beside_put=2.0)
    found = simulate_makespan(COSTS, schedule, [rates], 99)
    assert found.sending == 4
    assert found.seconds == pytest.approx(1 + 4 + 3)
    assert found.computing == pytest.approx(6 + 2)
    assert simulate_makespan(COSTS, schedule, [Rates(0.25, 1e9)], 99).seconds == pytest.approx(1 + 4 + 2)


def test_nothing_is_issued_while_an_action_waits_for_what_is_fetched():
    """Boundary 2 is there at 2, and sent at 4, when boundary 1 is there again; it is back at 7, before three backwards."""
    texts = ["F0:0", "F1", "F2:0", ">1", "<1", "F1:0~", ">2", "<2", "B2", "-2", "B1", "-1", "B0", "-0"]
    found = simulate_makespan(COSTS, Schedule.parse(texts, "sent"), [Rates(1.0, 0.5)], 99)
    assert found.seconds == pytest.approx(7 + 3)
