"""What other budgets are said to cost is what plans within them cost."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg

X, W = jnp.ones((256, 16)), jnp.eye(16)


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)


def plan_of(budget=None, layers=12, **options):
    return cg.plan(loss, [W] * layers, X, costs="estimate", budget=budget, **options)


def said(plan):
    return [advice for advice in plan.advice if advice.kind == "budgets"]


def figures_of(plan):
    found = {}
    for advice in said(plan):
        found.update(advice.figures)
    return found


SEARCHED, NESTED = [(budget, 3) for budget in (None, "0.6x", "min")], [(b, 12) for b in (None, "1x", "0.5x", "0.3x", "min")]


@pytest.mark.parametrize(("budget", "layers"), SEARCHED + NESTED)
def test_every_budget_that_is_named_takes_the_time_that_is_said(budget, layers):
    plan = plan_of(budget, layers)
    figures = figures_of(plan)
    named = [(f["budget"], f["bytes"], f["times"]) for f in [figures, *figures.get("larger", ())] if "budget" in f]
    if "least" in figures:
        named.append((figures["least"], figures["least_bytes"], figures["least_times"]))
    assert named or said(plan)[-1].text in ("a larger budget saves no time", "no smaller budget is feasible")
    for text, size, times in named:
        other = plan_of(text, layers)
        assert other.budget == size
        assert other.seconds / plan.seconds == pytest.approx(times)
        assert any(text in advice.text for advice in said(plan))


def test_a_smaller_budget_that_costs_little_is_named_and_one_below_which_time_doubles():
    plan = plan_of()
    figures = figures_of(plan)
    assert figures["bytes"] < 0.95 * plan.peak_bytes
    assert 1 < figures["times"] <= 1.05
    below = figures["steep_bytes"]
    with_less, with_more = plan_of(below - 1), plan_of(int(1.05 * below) + 2**10)
    assert with_less.seconds > 2 * plan.seconds >= with_more.seconds
    assert any(advice.text.startswith(f"below {figures['steep']} the time more than doubles") for advice in said(plan))


def test_at_the_ends_there_is_nothing_beyond():
    least, fastest = plan_of("min"), plan_of("1x")
    assert said(least)[0].text == "no smaller budget is feasible"
    with pytest.raises(cg.BudgetError):
        plan_of(least.peak_bytes - 1)
    assert said(fastest)[-1].text == "a larger budget saves no time"
    assert plan_of("3x").seconds == fastest.seconds


def test_the_fastest_is_named_where_a_larger_budget_saves_time():
    plan = plan_of("min")
    larger = figures_of(plan)["larger"]
    assert larger[-1]["times"] == pytest.approx(plan_of("3x").seconds / plan.seconds)
    assert f"{1 - larger[-1]['times']:.0%} less time; no budget saves more" in said(plan)[-1].text


def test_of_a_policy_the_budgets_are_those_of_the_optimal_one():
    plan = plan_of(policy="sqrt")
    larger = figures_of(plan)["larger"]
    assert [plan_of(f["budget"]).seconds / plan.seconds for f in larger] == pytest.approx([f["times"] for f in larger])


def scored(ws, x):
    """Attention-like: what is held inside is worth running over chunks."""
    for w in ws:
        x = x + jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", x @ w, x)), x)
    return jnp.mean(x**2)


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["0.9x", "0.4x", "0.25x", "min"])
def test_no_budget_that_is_named_takes_longer_than_is_said_where_stages_may_run_over_chunks(budget):
    arguments = [jnp.eye(16) * 0.1] * 4, jnp.ones((8, 128, 16))
    plan = cg.plan(scored, *arguments, budget=budget, costs="estimate")
    figures = figures_of(plan)
    named = [(f["budget"], f["times"]) for f in [figures, *figures.get("larger", ())] if "budget" in f]
    if "least" in figures:
        named.append((figures["least"], figures["least_times"]))
    assert named
    for text, times in named:
        other = cg.plan(scored, *arguments, budget=text, costs="estimate")
        assert other.seconds <= 1.001 * times * plan.seconds
    # The same seconds may be added in another order.
    assert plan.seconds >= (1 - 1e-12) * plan.fastest_seconds
    assert any(point.peak_bytes <= plan.peak_bytes and point.seconds <= 1.001 * plan.seconds for point in plan.points)
