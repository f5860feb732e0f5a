"""A plan as tables."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.planning.makespan import Rates
from ckptgrad.planning.schedule import Schedule
from ckptgrad.report.views.plan import MOST_ROWS
from ckptgrad.results.outcomes import Outcome
from ckptgrad.results.plan import Plan
from tests.cases.tanh import tanh_loss

X, W = jnp.ones((64, 16)), jnp.eye(16)


@pytest.fixture(scope="module")
def least():
    return cg.plan(tanh_loss, [W] * 6, X, budget="min", costs="estimate")


def summary(plan):
    """The rows above the table of stages, by name; a cell may run over several lines."""
    rows, name = {}, ""
    for line in str(plan).split("\n\n")[0].splitlines():
        name = line[:14].strip() or name
        rows[name] = f"{rows.get(name, '')} {line[14:].strip()}".strip()
    return rows


def stages(plan):
    return [" ".join(line.split()) for line in str(plan).split("\n\n")[1].splitlines()[1:]]


def test_what_it_costs(least):
    rows = summary(least)
    peak = f"{least.peak_bytes / 1024:.1f} KiB"
    assert rows["policy"] == f"optimal, budget {peak}"
    assert rows["predicted peak"].startswith(f"{peak} beyond the arguments: ")
    assert rows["predicted peak"].endswith("4 B outputs, 6.0 KiB gradients")
    assert rows["stages"].startswith(f"6, {len(least.program.kinds)} of them distinct; {least.schedule.forwards} forwards")
    assert rows["stages"].endswith(f"{least.schedule.forwards - 6} of them repeated")
    assert "fences" not in rows
    assert "borrowed rules" not in rows


def test_what_it_costs_more_is_said_where_it_applies(least, monkeypatch):
    assert summary(replace(least, fenced=False))["fences"].startswith("none: ")
    monkeypatch.setattr(Plan, "borrowed", property(lambda plan: ["mine", "yours"]))
    assert summary(least)["borrowed rules"].startswith("mine, yours: ")
    outcome = Outcome(round(1.5 * least.peak_bytes), 2 * least.seconds)
    monkeypatch.setattr(Plan, "found", property(lambda plan: outcome))
    assert "(+50.0%); " in summary(least)["observed"]
    assert summary(least)["observed"].endswith("(+100%)")


def test_what_is_sent_to_tiers_is_said_with_their_rates_and_where_these_are_from(least, monkeypatch):
    assert "tiers" not in summary(least)
    rates = Rates(2.0**20, 2.0**21, source="seen in 8 transfers")
    sent = replace(least, tier_rates={"host": rates})
    monkeypatch.setattr(Schedule, "sent", property(lambda schedule: 3))
    assert summary(sent)["tiers"] == (
        "3 boundaries sent beside computation; host at 1.0 MiB a second there and 2.0 MiB back (seen in 8 transfers)"
    )
    assert sent.to_dict()["tiers"]["host"]["source"] == "seen in 8 transfers"


def test_stages_that_repeat_are_written_once(least):
    """One row for two stages, whose forwards run equally often."""
    found = stages(least)
    forwards = [int(row.split()[-1]) for row in found]
    assert found[0].startswith("0, 1 ws[{0..1}], tanh.py:")
    assert " 4.0 KiB input 0 B " in found[0]
    assert forwards[0] * 2 + sum(forwards[1:]) == least.schedule.forwards


def test_a_pattern_of_stages_is_written_once():
    """Two kinds of layers in turn."""

    def turning(ws, x):
        for w in ws:
            x = cg.stage(lambda w, x: jnp.tanh(x @ w))(w, x)
            x = cg.stage(lambda x: x + jnp.sin(x))(x)
        return jnp.mean(x**2)

    found = stages(cg.plan(turning, [W] * 6, X, policy="store_all", costs="estimate"))
    assert [row.split(" test_plan")[0] for row in found][:2] == ["0, 2 .. 10 ws[{0..5}],", "1, 3 .. 11"]
    assert len(found) <= 4


def test_of_many_rows_the_first_are_shown():
    """Each layer is 128 columns narrower than the one before, which its boundary's bytes show."""

    def narrowing(x):
        for k in range(1, 51):
            x = cg.stage(lambda x, k=k: jnp.sin(x[: 6400 - 128 * k]))(x)
        return jnp.mean(x)

    plan = cg.plan(narrowing, jnp.ones(6400), policy="store_all", costs="estimate")
    found = stages(plan)
    assert len(found) == MOST_ROWS + 1
    assert found[-1] == f"... and {len(plan.costs) - MOST_ROWS} more rows"


def test_the_schedule_as_a_diagram(least):
    """The last stage above; each stage's backward is one letter."""
    lines = least.diagram().splitlines()
    assert [line.split()[1] for line in lines[:6]] == ["5", "4", "3", "2", "1", "0"]
    letters = [line[13:] for line in lines[:6]]
    assert [row.count("b") for row in letters] == [1] * 6
    assert sum(row.count(letter) for row in letters for letter in "frk") == least.schedule.forwards


def test_columns_are_explained_where_they_stand(least):
    """Each choice that occurs, and no other."""
    legend = str(least).split("\n\n")[2]
    assert [line.split(":")[0] for line in legend.splitlines() if line[0] != " " and ":" in line[:20]] == [
        "boundary",
        "kept for backward",
        "residuals",
        "forwards",
    ]
    assert "input: only what the stage reads" in " ".join(legend.split())
    assert "all: " not in legend.replace("input", "") or "all" in least.choices


def test_recomputation_inside_stages_is_said_where_no_forward_is_repeated():
    """A schedule that runs each stage once, and keeps what it reads alone: its backward computes the rest again."""

    def wide(ws, x):
        for w in ws:
            x = cg.stage(lambda w, x: x + jnp.tanh(x @ w) @ w.T)(w, x)
        return jnp.sum(x)

    def once(costs, budget=None, keep=-1):
        n = len(costs)
        there = [cg.Forward(i, keep=range(len(costs.stages[i].options))[keep]) for i in range(n)]
        back = [action for i in reversed(range(n)) for action in (cg.Backward(i), cg.Free(i))]
        return cg.Schedule((*there, *back), "once")

    arguments = [jnp.ones((16, 64))] * 4, X
    plan = cg.plan(wide, *arguments, policy=once, costs="estimate")
    assert plan.simulation.recomputations == 0
    assert plan.recomputing_inside == 4
    assert summary(plan)["inside stages"] == "4 of 5 backwards compute again what their forwards did not keep"
    stored = cg.plan(wide, *arguments, policy=partial(once, keep=0), costs="estimate")
    assert stored.recomputing_inside == 0
    assert "inside stages" not in summary(stored)


def test_it_ends_with_advice(least):
    said = str(least).split("\n\n")[3]
    assert said.startswith("What to know\n- the peak is set by the backward of stage ")
    assert " ".join(said.split()).split(" - ")[1:] == [advice.text for advice in least.advice]
    assert "- no smaller budget is feasible" in least._repr_html_()


def test_arguments_are_beside_what_the_call_adds(least):
    whole = 6 * W.nbytes + X.nbytes
    assert summary(least)["arguments"] == f"ws 6.0 KiB, x 4.0 KiB; {(whole + least.peak_bytes) / 1024:.1f} KiB with the peak"
    written = least.to_dict()
    assert written["argument_bytes"] == {"ws": 6 * W.nbytes, "x": X.nbytes}
    assert written["total_bytes"] == whole + least.peak_bytes


@pytest.mark.slow
def test_chunks_are_explained():
    def loss(w, x):
        return jnp.sum(jnp.sin(jnp.tanh(x @ w)))

    text = " ".join(
        str(cg.plan(loss, jnp.ones((4, 512)), jnp.ones((64, 4)), budget="min", chunks=True, costs="estimate")).split()
    )
    assert " chunks of " in text
    assert "one chunk after the other" in text
    assert ("in one pass: forward and backward in the same loop" in text) == (", in one pass" in text)
