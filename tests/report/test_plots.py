"""Pictures: each can be drawn, says what it shows, and can be told apart in grey."""

import itertools
from dataclasses import dataclass, replace

import jax.numpy as jnp
import pytest
from matplotlib.colors import to_rgb

import ckptgrad as cg
from ckptgrad.errors import MissingExtraError
from ckptgrad.planning import ChainCosts
from ckptgrad.planning.ledger import follow
from ckptgrad.planning.schedule import Backward, Forward, Free, Schedule
from ckptgrad.report.page import page
from ckptgrad.report.plots import style
from ckptgrad.report.plots.schedule import plot_schedule
from ckptgrad.report.schedule import spacetime
from ckptgrad.validation import jax_grad_point

X = jnp.ones((64, 16))
WS = [0.1 * jnp.eye(16)] * 6


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


@pytest.fixture(scope="module")
def shown():
    return {
        "plan": cg.plan(loss, WS, X, budget="min"),
        "timeline": cg.timeline(loss, WS, X, budget="0.6x", observe=("xla", "ledger")),
        "frontier": cg.frontier(loss, WS, X).beside(jax_grad_point(loss, WS, X)),
        "validation": cg.validate(loss, WS, X, budget="0.6x", repeats=1, meters=()),
    }


@pytest.mark.parametrize("name", ["plan", "timeline", "frontier", "validation"])
def test_figures_are_drawn_with_labelled_axes(shown, name, tmp_path):
    for title, draw in shown[name].figures().items():
        figure = draw()
        path = style.save_png(figure, tmp_path / f"{title}.png")
        assert path.read_bytes()[:4] == b"\x89PNG"
        assert path.stat().st_size > 10_000
        for ax in figure.axes:
            assert ax.get_ylabel()
        assert figure.axes[-1].get_xlabel() or name == "validation"


def test_the_timeline_marks_peak_budget_and_meters(shown):
    ax = shown["timeline"].plot().axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    for part in ("results", "boundaries", "XLA's buffer assignment, peak", "ledger", "budget"):
        assert any(part in label for label in labels)
    assert any("predicted peak" in text.get_text() for text in ax.texts)


def test_the_frontier_has_others_as_points(shown):
    labels = [text.get_text() for text in shown["frontier"].plot().axes[0].get_legend().get_texts()]
    for name in ("optimal", "jax.grad", "jax.checkpoint, dots_saveable", "sqrt", "revolve"):
        assert name in labels


def test_the_frontier_says_whose_peak_the_compiler_gave_if_there_is_one(shown):
    beside = shown["frontier"]
    alone = replace(beside, others=())
    axis = "peak beyond the arguments, MiB (predicted"
    assert [f.plot().axes[0].get_xlabel() for f in (beside, alone)] == [f"{axis}; jax.grad: XLA)", f"{axis})"]


def test_kinds_differ_in_grey_or_in_their_hatches():
    def grey(colour):
        return sum(w * c for w, c in zip((0.299, 0.587, 0.114), to_rgb(colour), strict=True))

    for (a, x), (b, y) in itertools.combinations(style.KIND_STYLES.values(), 2):
        assert abs(grey(a) - grey(b)) > 0.1 or x != y


@pytest.mark.parametrize("name", ["plan", "timeline", "frontier", "validation"])
def test_html_holds_tables_and_a_picture_and_needs_no_other_file(shown, name):
    html = page("a page <of one's own>", {name: shown[name]})
    assert "<table>" in html
    assert "data:image/png;base64," in html
    assert "a page &lt;of one" in html
    for elsewhere in ("http://", "https://", "<script", "<link"):
        assert elsewhere not in html
    assert "<table>" in shown[name]._repr_html_()


def test_a_graph_shows_its_operations():
    html = cg.trace(loss, WS, X)._repr_html_()
    assert "dot_general" in html
    assert "test_plots.py" in html


def test_without_matplotlib_html_has_no_picture_and_drawing_says_what_to_install(shown, monkeypatch):
    monkeypatch.setattr(style, "find_spec", lambda name: None)
    assert "data:image" not in shown["plan"]._repr_html_()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ckptgrad\[plot\]'"):
        shown["plan"].plot()


def test_space_and_time_of_a_schedule():
    schedule = Schedule(
        (Forward(0), Forward(1, 0), Backward(1), Free(1), Forward(0, 0, False), Backward(0), Free(0)), "by hand"
    )
    found = spacetime(schedule, ChainCosts.uniform(2))
    assert found.held == [(1, 0, 3)]
    assert found.marks == {
        "forward": [(0, 0), (1, 1)],
        "repeated forward": [(3, 0)],
        "residuals kept": [(1, 1), (3, 0)],
        "backward": [(2, 1), (4, 0)],
    }
    assert (found.time, found.counted) == (5, "forwards and backwards")


@dataclass(frozen=True)
class PageOut:
    """An action of which only the ledger has heard."""

    about: int
    scope: str = "page_out"


def test_an_action_that_only_the_ledger_knows_is_drawn_under_its_name(shown, monkeypatch):
    def following(costs, schedule):
        moments = list(follow(costs, schedule))
        return [moments[0], moments[0]._replace(action=PageOut(0)), *moments[1:]]

    monkeypatch.setattr("ckptgrad.report.schedule.follow", following)
    plan = shown["plan"]
    assert spacetime(plan.schedule, plan.costs).marks["page out"] == [(1, 0)]
    *_, counted, words = plan.diagram().splitlines()
    assert "forwards, page outs and backwards, from left" in counted
    assert words.split("  ")[-2:] == ["p page out", "- boundary held"]
    labels = [text.get_text() for text in plot_schedule(plan).axes[0].get_legend().get_texts()]
    assert "page out" in labels


def test_the_diagram_in_letters(shown):
    lines = shown["plan"].diagram().splitlines()
    assert lines[0].lstrip().startswith("stage 5")
    assert lines[5].lstrip().startswith("stage 0")
    assert {"f", "r", "k", "b"} <= {*"".join(line[12:] for line in lines[:6])}
