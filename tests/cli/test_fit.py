"""`ckptgrad fit`, as a user calls it."""

from __future__ import annotations

import importlib
import json

import pytest

STEP = """
import jax, jax.numpy as jnp
import ckptgrad as cg
import climodel

def step(weights, x):
    loss, gradients = cg.value_and_grad(climodel.loss, budget="fit")(weights, x)
    return jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradients), loss
"""


@pytest.fixture
def fit(run, tmp_path, monkeypatch):
    (tmp_path / "clistep.py").write_text(STEP)
    return lambda *options, code=0: run("fit", "clistep:step", "climodel:make_args", *options, code=code)


def test_the_certificate_is_delivered(fit, tmp_path):
    found = json.loads(fit("--memory", "1MiB", "--donate", "0", "--json", "--html", "out.html").stdout)
    assert found["peak_bytes"] <= found["limit_bytes"] == 2**20
    assert found["alias_bytes"] == 6 * 8 * 8 * 4
    assert "weights" in (tmp_path / "out.html").read_text()


def test_a_step_that_does_not_fit_says_why(fit):
    assert "donate weights" in fit("--memory", "2KiB", code=2).stderr


def test_what_cannot_be_read_is_refused(fit):
    assert "--donate x: write positions" in fit("--donate", "x", code=2).stderr


def test_options_of_gradients_are_passed_on(fit, monkeypatch):
    taken, module = [], importlib.import_module("ckptgrad.cli.fit")
    real = module.fit_step
    monkeypatch.setattr(module, "fit_step", lambda *args, **options: taken.append(options) or real(*args, **options))
    fit("--memory", "1MiB", "--policy", "recompute_all", "--costs", "estimate", "--saveable", "dots_saveable")
    (options,) = taken
    assert {name: options[name] for name in ("policy", "costs", "saveable")} == {
        "policy": "recompute_all",
        "costs": "estimate",
        "saveable": "dots_saveable",
    }
    assert "no policy is called 'nothing'" in fit("--policy", "nothing", code=2).stderr
