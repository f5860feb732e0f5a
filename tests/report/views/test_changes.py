"""What differs between two results, as tables."""

from __future__ import annotations

from ckptgrad.report.views.changes import MOST_ROWS
from ckptgrad.results.changes import Change, Changes, Contents, StageChange, changes
from tests.cases.results import KIB

CHANGES = Changes(
    "plan",
    (Change("peak", 4 * KIB, 3 * KIB), Change("argument x", KIB, KIB)),
    (Change("boundaries: float32[256] of tanh", 0, KIB), Change("residuals: float32[512] of sin", 2 * KIB, 0)),
    (StageChange(3, "blocks[3], model.py:12", "keeps all, 1 x forward", "keeps input, 2 x forward"),),
    (1.0, 1.5),
    (4, 4),
)


def rows(found):
    return [" ".join(line.split()) for line in str(found).splitlines()]


def test_tables():
    found = rows(CHANGES)
    assert found[0] == "what differs between two results, each a plan; the second takes 1.50 times the estimated time"
    assert "peak 4.0 KiB 3.0 KiB -1.0 KiB shrank" in found
    assert "argument x 1.0 KiB 1.0 KiB -" in found
    assert "boundaries: float32[256] of tanh - 1.0 KiB +1.0 KiB appeared" in found
    assert "residuals: float32[512] of sin 2.0 KiB - -2.0 KiB went" in found
    assert "3 blocks[3], model.py:12 keeps all, 1 x forward keeps input, 2 x forward" in found
    assert "blocks[3]" in CHANGES._repr_html_()


def test_other_numbers_of_stages_are_said():
    found = rows(Changes("plan", (Change("peak", KIB, KIB),), (), stage_counts=(1, 5)))
    assert found[-1] == "1 stage before, 5 after"


def test_nothing_differs():
    assert str(Changes("timeline", (Change("peak", KIB, KIB),), ())) == "the same timeline: nothing differs"


def test_of_many_rows_the_first_are_shown():
    many = tuple(Change(f"name {k}", 0, KIB) for k in range(MOST_ROWS + 3))
    found = rows(Changes("plan", (Change("peak", KIB, 2 * KIB),), many))
    assert found[-1] == "... and 3 more rows"


def test_differences_that_do_not_show_are_not_listed():
    found = changes(
        Contents("plan", {"peak": 9}, {"w": 524_392, "v": 1024}), Contents("plan", {"peak": 9}, {"w": 524_388, "v": 1000})
    )
    assert [change.name for change in found.held] == ["v", "w"]
    assert " v " in f" {' '.join(str(found).split())} "
    assert "512.1 KiB" not in str(found)
