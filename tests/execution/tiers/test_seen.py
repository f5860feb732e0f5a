"""What gradients saw of tiers: medians of transfers, and the time that equal programs lose beside them."""

from __future__ import annotations

import jax
import pytest

from ckptgrad.execution.tiers.seen import ENOUGH, Ran, Seen, Span, seen
from ckptgrad.execution.tiers.tier import read_tier
from ckptgrad.planning.makespan import Rates

OPENING = Rates(1.0, 2.0, 0.0, 1.5, 1.25, "measured at opening")


def test_what_was_seen_too_seldom_is_as_measured_at_opening():
    found = Seen()
    found.put.extend([(100, 1.0)] * ENOUGH)
    assert found.rates(OPENING) is OPENING


def test_rates_are_medians_of_what_was_seen():
    """One transfer that was held up does not count, nor do the small ones, where others are larger."""
    found = Seen()
    found.put.extend([(1000, 10.0)] * 5 + [(1000, 900.0), (1, 5.0)])
    found.get.extend([(1000, 5.0)] * 5)
    rates = found.rates(OPENING)
    assert (rates.put, rates.get) == pytest.approx((100, 200))
    assert rates.source == "seen in 12 transfers"
    assert (rates.beside_put, rates.beside_get) == (1.5, 1.25)


def test_forgetting_takes_time_of_the_thread_that_fetches():
    found = Seen()
    found.put.extend([(100, 1.0)] * ENOUGH)
    found.get.extend([(100, 1.0)] * ENOUGH)
    found.drop.extend([(100, 1.0)] * ENOUGH)
    assert found.rates(OPENING).get_seconds(100) == pytest.approx(2.0)


def test_programs_are_compared_with_equal_ones_beside_fewer_transfers():
    """Each of them takes a second, and half of what it runs beside sending; nothing is said of fetching."""
    found = Seen()
    for _ in range(4):
        runs, puts = list[Ran](), list[Span]()
        for k in range(8):
            sending = 0.25 * k
            runs.append(Ran("forward", Span(10.0 * k, 10.0 * k + 1 + sending / 2)))
            puts.append(Span(10.0 * k, 10.0 * k + sending))
        found.note_programs([*runs, Ran("another", Span(90.0, 99.0))], puts, [])
    assert [*found.lost_put] == pytest.approx([0.5] * len(found.lost_put))
    assert not found.lost_get
    assert found.rates(OPENING).beside_put == pytest.approx(2.0)


def test_a_tier_is_known_by_its_place_whatever_its_capacity(tmp_path):
    device = jax.devices("cpu")[0]
    small, large = (read_tier(f"disk:{tmp_path}:{size}") for size in ("1MiB", "2MiB"))
    assert seen(small, device) is seen(large, device)
    assert seen(small, device) is not seen(read_tier("host:1MiB"), device)


def test_rates_are_told_while_another_gradient_notes_its_transfers():
    found = Seen()

    class Noted(tuple):
        """Another is noted as soon as this one is read."""

        def __iter__(self):
            found.put.append((1000, 1.0))
            return super().__iter__()

    found.put.extend([Noted((1000, 1.0))] * ENOUGH)
    found.get.extend([(1000, 1.0)] * ENOUGH)
    assert found.rates(Rates(1.0, 1.0)).put == pytest.approx(1000.0)
