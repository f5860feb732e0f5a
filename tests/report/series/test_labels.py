"""Where names stand."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from ckptgrad.report.series.labels import MARKER, _box, spots

COORDINATES = st.tuples(st.floats(0, 400), st.floats(0, 200))


def test_a_lone_name_is_to_the_right_or_where_it_does_not_end_to_the_left():
    assert [*spots([("name", 100, 50)], [(100, 50)], 400, 100)][0].right
    assert not [*spots([("name", 390, 50)], [(390, 50)], 400, 100)][0].right


def test_without_room_there_is_no_name():
    assert [*spots([("name", 10, 10)], [(10, 10)], 20, 20)] == [None]


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=12), COORDINATES), max_size=12), st.lists(COORDINATES, max_size=12))
def test_no_name_hides_another_or_a_point(wanted, others):
    names = [(text, *at) for text, at in wanted]
    points = [*others, *(at for _, at in wanted)]
    found = [*spots(names, points, 400, 200)]
    boxes = [_box(*name, spot.right, spot.higher / 13) for name, spot in zip(names, found, strict=True) if spot]
    assert not any(a.meets(b) for a, b in combinations(boxes, 2))
    for box in boxes:
        assert 0 <= box.left <= box.right <= 400 and 0 <= box.bottom <= box.top <= 200
        assert all(abs(x - (box.left + box.right) / 2) >= MARKER + (box.right - box.left) / 2 - 1e-6
                   or abs(y - (box.bottom + box.top) / 2) >= MARKER + (box.top - box.bottom) / 2 - 1e-6 for x, y in points)  # fmt: skip
