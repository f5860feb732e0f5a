"""The picture of a schedule."""

from __future__ import annotations

from dataclasses import dataclass

from ckptgrad.planning.ledger import follow
from ckptgrad.report.plots.schedule import plot_schedule
from ckptgrad.report.series.spacetime import spacetime


@dataclass(frozen=True)
class PageOut:
    """An action of which only the ledger has heard."""

    about: int
    scope: str = "page_out"


def test_an_action_that_only_the_ledger_knows_is_drawn_under_its_name(shown, monkeypatch):
    def following(costs, schedule):
        moments = list(follow(costs, schedule))
        return [moments[0], moments[0]._replace(action=PageOut(0)), *moments[1:]]

    monkeypatch.setattr("ckptgrad.report.series.spacetime.follow", following)
    plan = shown["plan"]
    assert spacetime(plan.schedule, plan.costs).marks["page out"] == [(1, 0)]
    *_, counted, words = plan.diagram().splitlines()
    assert "forwards, page outs and backwards, from left" in counted
    assert words.split("  ")[-2:] == ["p page out", "- boundary held"]
    labels = [text.get_text() for text in plot_schedule(plan).axes[0].get_legend().get_texts()]
    assert "page out" in labels


def test_every_action_is_a_mark_at_its_stage(shown):
    plan = shown["plan"]
    ax = plot_schedule(plan).axes[0]
    marks = {line.get_label(): [*zip(line.get_xdata(), line.get_ydata(), strict=True)] for line in ax.lines}
    assert sorted(stage for _, stage in marks["backward"]) == [*range(len(plan.costs))]
    assert len(marks["forward"]) + len(marks["repeated forward"]) == plan.schedule.forwards
    assert ax.get_ylim() == (-1, len(plan.costs))
