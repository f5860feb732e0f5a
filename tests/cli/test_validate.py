"""`ckptgrad validate`, as a user calls it."""

from __future__ import annotations

import json

import ckptgrad as cg
from ckptgrad.autodiff.rule import register, unregister
from tests.cli.model import TARGET


def test_validate(run):
    text = run("validate", *TARGET, "--budget", "0.5x", "--repeats", "1", "--meters", "none").output
    for name in ("jax.grad", "jax.checkpoint", "optimal", "passed"):
        assert name in text


def test_validate_json_with_aux_and_argnums(run):
    words = ["--has-aux", "--argnums", "0", "--argnums", "1", "--policy", "store_all", "--repeats", "1"]
    result = run("validate", "climodel:with_aux", TARGET[1], *words, "--meters", "none", "--json")
    found = json.loads(result.stdout)
    assert found["passed"]
    assert [row["name"] for row in found["rows"]] == ["jax.grad", "jax.checkpoint", "store_all"]


def test_gradient_that_differs_exits_with_1(run):
    own = unregister("tanh")
    cg.bprop_rule("tanh")(lambda op, ct: (1.05 * ct * (1 - op.outputs[0] ** 2),))
    try:
        result = run("validate", *TARGET, "--repeats", "1", "--meters", "none", code=1)
    finally:
        unregister("tanh")
        register(own)
    assert "differs from jax.grad" in result.stderr
    assert "FAILED" in result.stdout
