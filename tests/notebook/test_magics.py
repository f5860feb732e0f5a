"""The magics, in an IPython shell."""

import jax
import jax.numpy as jnp
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import ckptgrad as cg


def loss(ws, x, scale=1.0):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return scale * jnp.mean(x**2)


@pytest.fixture
def shell():
    new_shell = InteractiveShell()
    new_shell.run_line_magic("load_ext", "ckptgrad")
    new_shell.user_ns |= {"loss": loss, "ws": [0.1 * jnp.eye(16)] * 6, "x": jnp.ones((64, 16)), "jnp": jnp}
    return new_shell


def test_plan(shell):
    plan = shell.run_line_magic("ckptgrad", "plan loss(ws, x) --budget 0.6x")
    assert plan.budget == cg.plan(loss, shell.user_ns["ws"], shell.user_ns["x"], budget="0.6x").budget


def test_timeline_with_meters_into_a_variable(shell):
    assert shell.run_line_magic("ckptgrad", "timeline loss(ws, x - -1, scale=2.0) --observe xla,ledger --into t") is None
    assert set(shell.user_ns["t"].readings) == {"xla", "ledger"}


def test_frontier_shows_jax_grad_too(shell):
    frontier = shell.run_line_magic("ckptgrad", "frontier loss(*(ws, x))")
    assert "jax.grad" in [p.policy for p in frontier.others]


def test_validate(shell):
    validation = shell.run_line_magic("ckptgrad", "validate loss(ws, x) --argnums 0,1 --policy store_all --locate")
    assert validation.passed
    assert [row.name for row in validation.rows] == ["jax.grad", "jax.checkpoint", "store_all"]


def test_costs(shell):
    plans = [shell.run_line_magic("ckptgrad", f"plan loss(ws, x) --costs {source}") for source in ("estimate", "compile")]
    assert plans[0].costs != plans[1].costs


def test_a_cell_returns_value_gradient_plan_and_timeline(shell):
    result = shell.run_cell_magic("ckptgrad", "--budget 0.6x", "y = 2 * x\nloss(ws, y)")
    value, gradient = jax.value_and_grad(loss)(shell.user_ns["ws"], 2 * shell.user_ns["x"])
    assert jnp.allclose(result.value, value)
    assert jax.tree.all(jax.tree.map(lambda a, b: jnp.allclose(a, b, atol=1e-6), result.gradient, gradient))
    assert result.timeline.peak_bytes == result.plan.peak_bytes
    assert "live bytes" in str(result)
    assert "<table>" in result._repr_html_()


def test_a_cell_that_assigns(shell):
    assert shell.run_cell_magic("ckptgrad", "--observe none", "kept = loss(ws, x)") is None
    assert shell.user_ns["kept"].plan.peak_bytes > 0


@pytest.mark.parametrize(
    ("line", "cell", "message"),
    [
        ("", None, "write one of plan, validate"),
        ("draw loss(ws, x)", None, "write one of plan, validate"),
        ("plan loss(ws", None, "write a call such as"),
        ("plan ws", None, "is not a call"),
        ("plan loss(ws, x) --budget 3B", None, "smallest feasible peak"),
        ("plan loss(ws, x) --policy magic", None, "magic"),
        ("plan loss(ws, x) --argnums one", None, "write a number"),
        ("frontier loss(ws, x) --budget 1MiB", None, "frontier takes no --budget"),
        ("frontier loss(ws, x) --runtime staged", None, "frontier takes no --runtime"),
        ("--budget much", "raise RuntimeError\nloss(ws, x)", "much"),
        ("timeline loss(ws, x) --observe thermometer", None, "no meter 'thermometer'"),
        ("", "y = (", "the cell"),
        ("", "for i in []: pass", "must be a call"),
        ("", "# nothing", "must be a call"),
    ],
)
def test_mistakes_are_one_message(shell, line, cell, message):
    words = ("ckptgrad", line) if cell is None else ("ckptgrad", line, cell)
    run = shell.run_line_magic if cell is None else shell.run_cell_magic
    with pytest.raises(UsageError, match=message):
        run(*words)
