"""The interactive figures of a plan."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from bokeh.models import ColumnDataSource

import ckptgrad as cg
from ckptgrad.report.interactive.plan import interactive


def kept_bars(plan):
    drawn = interactive(plan)["schedule"]()
    for source in drawn.root.select({"type": ColumnDataSource}):
        if any(words.startswith("kept inside") for words in source.data.get("words", [])):
            return [*zip(source.data["top"], source.data["bottom"], source.data["words"], strict=True)]
    raise AssertionError("nothing is kept")


def test_the_figures_of_a_plan(shown):
    assert [*interactive(shown["plan"])] == ["schedule", "stage costs", "time against bytes"]
    for draw in interactive(shown["plan"]).values():
        assert draw().caption


def test_two_budgets_look_different():
    """Less is kept inside."""

    def loss(ws, x):
        for w in ws:
            x = cg.stage(lambda w, x: x + jax.nn.gelu(x @ w) @ w.T)(w, x)
        return jnp.sum(x)

    ws, x = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 4, jax.ShapeDtypeStruct((4096, 1024), jnp.float32)
    most, least = (kept_bars(cg.plan(loss, ws, x, budget=budget)) for budget in (None, "0.6x"))
    assert sum(top - bottom for top, bottom, _ in most) > sum(top - bottom for top, bottom, _ in least)


def test_the_chosen_plan_is_marked(shown):
    drawn = interactive(shown["plan"])["time against bytes"]()
    assert any(words.endswith("chosen") for words in drawn.root.select_one({"name": "points"}).source.data["policy"])
