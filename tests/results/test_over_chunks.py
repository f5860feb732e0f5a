"""Axes of chunks by the names that users know, and axes that stay whole."""

import json
from dataclasses import asdict
from html import escape

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bokeh.models import ColumnDataSource

import ckptgrad as cg
from ckptgrad.report.interactive.plan import interactive as interactive_plan
from ckptgrad.report.interactive.timeline import interactive as interactive_timeline
from ckptgrad.report.page import page
from ckptgrad.report.series.spacetime import stage_labels

WORDS, WIDTH = 512, 8
PARAMS = {
    "table": np.random.default_rng(0).normal(size=(WORDS, WIDTH)).astype("float32"),
    "head": np.random.default_rng(1).normal(size=(WIDTH, WORDS)).astype("float32"),
}
BATCH = {name: np.arange(16 * 32).reshape(16, 32) % WORDS for name in ("next", "tokens")}


def loss(params, batch):
    x = jnp.tanh(params["table"][batch["tokens"]])
    logits = jax.nn.log_softmax(x @ params["head"])
    return -jnp.mean(jnp.take_along_axis(logits, batch["next"][..., None], -1))


def plan_of(chunks):
    return cg.plan(loss, PARAMS, BATCH, budget="min", costs="estimate", chunks=chunks)


def test_plans_name_the_axis():
    plan = plan_of("not axis 0 of batch")
    assert {*plan.chunk_axes.values()} == {"axis 1 of batch['next']"}
    assert "chunks of" in plan.choices[next(iter(plan.chunk_axes))]
    assert "along axis 1 of batch['next'] in stage" in " ".join(str(plan).split())
    assert plan.to_dict()["chunk_axes"] == plan.chunk_axes


def test_plans_timelines_and_diagrams_say_what_runs_over_which_chunks():
    """With the same words: how many chunks, of how many entries of which axis, in which stage."""
    plan = plan_of("not axis 0 of batch")
    ((stage, chunks),) = plan.chunks.items()
    assert f"{chunks.count} chunks of {chunks.entries}" in plan.choices[stage]
    words = f"{chunks.count} chunks of {chunks.entries} along axis 1 of batch['next']"
    timeline = plan.timeline()
    assert timeline.chunks == plan.chunks
    for text in (str(plan), plan.diagram(), str(timeline)):
        assert f"{words} in stage {stage}" in " ".join(text.split())
    assert f"{stage}  test_over_chunks.py" in (labelled := stage_labels(plan)[stage])
    assert labelled.endswith(f", {chunks.count} chunks")


def test_each_action_says_over_which_chunks_it_runs():
    plan = plan_of("not axis 0 of batch")
    (stage,) = plan.chunks
    timeline = plan.timeline()
    own = plan.chunks[stage]
    rows = [row for row in timeline.to_dict()["moments"] if row["chunks"]]
    assert rows
    assert all(row["stage"] == stage and row["chunks"] == asdict(own) for row in rows)
    assert f",{own}" in timeline.to_csv()
    slices = [e["args"] for e in json.loads(timeline.to_perfetto())["traceEvents"] if e["ph"] == "X"]
    assert {args["action"] for args in slices if args.get("chunks") == str(own)} == {row["action"] for row in rows}
    assert all(m.chunks is None for m in plan_of(False).timeline().moments)


def test_figures_and_tables_of_pages_name_chunks():
    plan = plan_of("not axis 0 of batch")
    ((stage, chunks),) = plan.chunks.items()
    for shown in (plan, plan.timeline()):
        assert escape(f"{chunks} in stage {stage}") in page("a page", {"result": shown})
    schedule = interactive_plan(plan)["schedule"]().root
    assert any(words.endswith(f"; in {chunks}") for words in written(schedule, "words"))
    drawn = interactive_timeline(plan.timeline())["timeline"]().root
    assert {f"in {chunks}", "whole"} == {*written(drawn, "chunks")}


def written(drawn, column):
    """What the sources of a figure have in a column."""
    sources = drawn.select({"type": ColumnDataSource})
    return [words for source in sources for words in source.data.get(column, [])]


def test_axes_that_stay_whole_are_cut_in_no_stage():
    free = plan_of("auto")
    (first,) = {*free.chunk_axes.values()}
    other = plan_of(f"not {first}")
    assert first not in other.chunk_axes.values()
    assert other.peak_bytes >= free.peak_bytes
    none = plan_of(["not axis 0 of batch", "not axis 1 of batch", "not axis 0 of params", "not axis 1 of params"])
    assert none.chunk_axes == {}
    assert none.peak_bytes == plan_of(False).peak_bytes


def test_what_runs_whole_has_none():
    assert plan_of(False).chunk_axes == {}
    assert cg.plan(loss, PARAMS, BATCH).chunk_axes == {}


def test_unknown_arguments_are_refused_when_it_is_called():
    with pytest.raises(cg.OptionError, match="there is no tokens among the arguments params, batch"):
        plan_of("not axis 0 of tokens")
    with pytest.raises(cg.OptionError, match=r"microbatches=2 is not to be had with axes that stay whole"):
        cg.grad(loss, chunks="not axis 0 of batch", microbatches=2)


def test_the_gradient_is_the_same():
    found = jax.jit(cg.grad(loss, budget="min", costs="estimate", chunks="not axis 0 of batch"))(PARAMS, BATCH)
    for a, b in zip(jax.tree.leaves(jax.grad(loss)(PARAMS, BATCH)), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-6 * np.abs(a).max())
