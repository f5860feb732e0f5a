"""Where names stand."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from ckptgrad.report.series.labels import LINE, _box, spots

COORDINATES = st.tuples(st.floats(0, 400), st.floats(0, 200))


def test_a_lone_name_is_to_the_right_or_where_it_does_not_end_to_the_left():
    sides = [spot.right for x in (100, 390) for spot in spots([("name", x, 50)], [(x, 50)], 400, 100)]
    assert sides == [True, False]


def test_without_room_there_is_no_name():
    assert [*spots([("name", 10, 10)], [(10, 10)], 20, 20)] == [None]


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=12), COORDINATES), max_size=12), st.lists(COORDINATES))
def test_no_name_hides_another_or_a_point(wanted, others):
    names = [(text, *at) for text, at in wanted]
    points = [*others, *(at for _, at in wanted)]
    found = [*spots(names, points, 400, 200)]
    boxes = [_box(*name, spot.right, spot.higher / LINE) for name, spot in zip(names, found, strict=True) if spot]
    assert not any(a.meets(b) for a, b in combinations(boxes, 2))
    for box in boxes:
        assert 0 <= box.left <= box.right <= 400
        assert 0 <= box.bottom <= box.top <= 200
        assert not any(box.left < x < box.right and box.bottom < y < box.top for x, y in points)
