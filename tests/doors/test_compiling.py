"""What a budget that is too small is told."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors.compiling import first_within
from tests.cases.tanh import tanh_arguments, tanh_loss

WS, X = tanh_arguments(16, 64, layers=3)


def scanned_loss(ws, x):
    return jnp.mean(jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, ws)[0] ** 2)


@pytest.mark.parametrize(
    ("loss", "ws"),
    [
        pytest.param(tanh_loss, WS, id="stages", marks=pytest.mark.slow),
        pytest.param(scanned_loss, jnp.stack(WS), id="a loop"),
    ],
)
def test_the_bytes_that_a_refusal_names_are_enough(loss, ws):
    """They are certified, of the plans by both sources of costs, so no second refusal names others."""
    with pytest.raises(cg.BudgetError) as refused:
        cg.value_and_grad(loss, budget=100).compile(ws, X)
    smallest = refused.value.smallest
    assert refused.value.budget == 100
    assert cg.value_and_grad(loss, budget=smallest).compile(ws, X).peak_bytes <= smallest


@pytest.mark.parametrize("change", [1, -1, 2])
@pytest.mark.parametrize("budget", [None, "min"])
def test_a_function_that_changes_from_trace_to_trace_is_refused(change, budget):
    depth = [5]

    def changing(ws, x):
        depth[0] += change
        for w in ws[: depth[0]]:
            x = cg.stage(lambda w, x: x + jnp.tanh(x @ w))(w, x)
        return jnp.mean(x**2)

    with pytest.raises(cg.ScheduleError, match=r"changing .* has \d+ stages, and had \d+ when it was planned"):
        cg.value_and_grad(changing, budget=budget).compile(WS * 3, X)


def refused(smallest):
    def attempt():
        raise cg.BudgetError(100, smallest, None, "optimal")

    return attempt


def taking(peak_bytes):
    return lambda: SimpleNamespace(peak_bytes=peak_bytes)


def test_the_first_attempt_that_fits_is_taken_and_no_further_one_made():
    never = refused(0)
    found = first_within(iter([refused(300), taking(90), never]), least=False)
    assert found.peak_bytes == 90


def test_of_attempts_at_the_smallest_plan_the_smallest_is_taken():
    assert first_within([taking(90), refused(300), taking(80), taking(85)], least=True).peak_bytes == 80


def test_where_no_attempt_fits_the_fewest_bytes_are_named():
    with pytest.raises(cg.BudgetError) as caught:
        first_within([refused(300), refused(200), refused(250)], least=False)
    assert caught.value.smallest == 200
