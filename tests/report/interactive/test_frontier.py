"""The interactive frontier."""

from __future__ import annotations

import pytest
from bokeh.models import DataTable, LabelSet, Title

from ckptgrad.planning.frontier import Point
from ckptgrad.report.interactive.frontier import drawn_series, interactive
from ckptgrad.report.page import page
from ckptgrad.report.series.frontier import frontier_series
from tests.cases.results import FRONTIER, KIB
from tests.support.browser import opened, point_at, texts


def labels(drawn):
    return {text for labels in drawn.root.select({"type": LabelSet}) for text in labels.source.data["label"]}


def test_every_point_is_in_the_table_and_rivals_are_named():
    drawn = interactive(FRONTIER)["frontier"]()
    table = drawn.root.select_one({"type": DataTable})
    assert sorted(table.source.data["policy"]) == ["optimal", "optimal", "optimal, the knee", "revolve(2)", "sqrt"]
    assert labels(drawn) == {"sqrt", "knee: 200.0 KiB, 2.00"}


def test_the_chosen_plan_is_marked_and_what_is_far_is_named():
    far = Point(9000 * KIB, 1.0, "jax.grad")
    drawn = drawn_series(frontier_series(FRONTIER.points, (far,), Point(400 * KIB, 1.0)))
    assert "chosen: 400.0 KiB, 1.00" in labels(drawn)
    assert "optimal, chosen" in drawn.root.select_one({"type": DataTable}).source.data["policy"]
    figure = drawn.root.select_one({"name": "frontier"})
    assert figure.x_range.end < 1000
    (title,) = [part for part in figure.above if isinstance(part, Title)]
    assert "jax.grad: 8.8 MiB" in title.text


@pytest.mark.slow
def test_pointing_at_a_rival_names_it(tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page("frontier", {"Frontier": FRONTIER}))
    with opened(file) as shown:
        shown.mouse.move(*point_at(shown, "frontier", 300, 2.5))
        card = shown.locator(".bk-tooltip-content", has_text="sqrt")
        card.wait_for()
        assert "300.0 KiB, 2.50 times the fastest" in " ".join(texts(shown, ".bk-tooltip-content"))
