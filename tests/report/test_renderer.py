"""Results about nothing: no bytes, no seconds, no operations; and names that look like markup."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.report.page import page
from ckptgrad.report.text import to_text
from tests.support.rows import quick_rows

ONE, NONE = jnp.ones(()), jnp.zeros((0,))
NOTHING = {
    "a constant": (lambda x: 1.0, (ONE,)),
    "a constant of nothing": (lambda x: 1.0, (NONE,)),
    "no leaves": (lambda t: jnp.float32(1), ({},)),
    "its argument": (lambda x: x, (ONE,)),
    "no entries": (lambda x: jnp.sum(jnp.sin(x) ** 2), (NONE,)),
    "a loop over nothing": (lambda c, xs: jax.lax.scan(lambda c, x: (jnp.sin(c) * x, c), c, xs)[0], (ONE, NONE)),
}


def is_shown(result):
    """In all ways; what cannot be divided is left out."""
    assert str(result)
    assert result._repr_html_()
    assert page("title", {"section": result})
    json.dumps(result.to_dict(), allow_nan=False)
    for draw in result.figures().values():
        draw().savefig("/dev/null", format="png")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", quick_rows(NOTHING, "no leaves", "a loop over nothing"))
def test_plans_and_frontiers_of_nothing_are_shown(name):
    fun, args = NOTHING[name]
    plan = cg.plan(fun, *args)
    assert plan.diagram()
    is_shown(plan)
    is_shown(plan.timeline())
    is_shown(cg.frontier(fun, *args))


@pytest.mark.parametrize("budget", ["min", "1x"])
def test_a_plan_of_nothing_takes_its_value_alone(budget):
    plan = cg.plan(NOTHING["a constant of nothing"][0], NONE, budget=budget)
    assert plan.peak_bytes == plan.budget == plan.program.output_bytes == 4


@pytest.mark.slow
@pytest.mark.parametrize(("fun", "args"), NOTHING.values(), ids=NOTHING)
def test_timelines_and_validations_of_nothing_are_shown(fun, args):
    is_shown(cg.timeline(fun, *args, observe=["xla", "ledger"]))
    is_shown(cg.validate(fun, *args, meters="none", repeats=1, locate=True))
    certified = cg.value_and_grad(fun).compile(*args)
    assert str(certified.compare(*args))
    is_shown(certified.plan)


NAMES = ("[bold]mine[/bold]", "[/]", "mine[0]", "[red]", ":smile:", "[link=x]", "\\[a]")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name):
    def mine(costs, budget=None):
        return cg.Schedule(tuple(cg.plan(sines, jnp.ones(4), policy="store_all").schedule), name)

    def sines(x):
        return jnp.sum(jnp.sin(x))

    plan = cg.plan(sines, jnp.ones(4), policy=mine)
    assert name in str(plan)
    assert name in to_text([name])
    assert name.replace("'", "&#x27;") in plan._repr_html_()
    sines.__name__ = name
    assert name in str(cg.timeline(sines, jnp.ones(4), observe=()))
