"""Links between devices."""

from __future__ import annotations

from ckptgrad.target.links import Links


def test_a_ring_beyond_the_near_devices_takes_the_far_rate():
    links = Links(10.0, near=8, far_rate=2.0)
    assert [links.seconds(20.0, span) for span in (2, 8, 9, 64)] == [2.0, 2.0, 10.0, 10.0]


def test_where_nothing_else_is_known_all_are_near():
    assert Links(10.0).seconds(20.0, 4096) == 2.0
