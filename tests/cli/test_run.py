"""A script as it is: its arguments, its output, its exit code, its traceback."""

from __future__ import annotations

import json
import sys

import pytest

from tests.support.targets import compile_only

SCRIPT = """
import sys
from jax import grad
import jax.numpy as jnp

def loss(x):
    return jnp.sum(jnp.tanh(x) ** 2)

print(__name__, sys.argv[1:], float(grad(loss)(jnp.ones(4))[0]))
{last}
"""


@pytest.fixture
def script(tmp_path):
    def write(last=""):
        (tmp_path / "usertrain.py").write_text(SCRIPT.format(last=last))
        return "usertrain.py"

    return write


def test_a_script_runs_as_main_with_its_arguments(run, script, tmp_path):
    before = sys.argv[:], sys.path[:]
    result = run("run", script(), "--budget", "1MiB", "--html", "page.html", "--", "--epochs", "3")
    assert "__main__ ['--epochs', '3'] 0.6396" in result.output
    assert "1 of 1 gradients planned, budget 1MiB for each" in result.output
    assert "usertrain.py:9" in " ".join(result.output.split())
    written = (tmp_path / "page.html").read_text()
    assert "usertrain.py" in written
    assert "<h2>Gradient of " in written
    assert (sys.argv, sys.path) == before


def test_a_module(run, script):
    script()
    assert "__main__ ['a']" in run("run", "-m", "usertrain", "--", "a").output


def test_json_is_alone_on_standard_output(run, script):
    data = json.loads(run("run", script(), "--json").stdout)
    assert [call["left"] for call in data["calls"]] == [""]


def test_a_dry_run_ends_when_enough_is_compiled(run, script):
    result = run("run", script(), "--dry", "--budget", "1MiB")
    assert "a dry run, compiled for what is attached" in result.output
    assert "__main__" not in result.output


def test_a_dry_run_for_a_chip_that_is_not_here(run, script):
    target = compile_only("h100")
    data = json.loads(run("run", script(), "--dry", "--target", "h100", "--budget", "1MiB", "--json").stdout)
    assert data["target"] == str(target)
    assert data["calls"][0]["certified_bytes"] > 0


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        ("sys.exit(7)", 7, "1 of 1"),
        ("sys.exit()", 0, "1 of 1"),
        ("sys.exit('no data')", 1, "no data"),
        ("raise KeyboardInterrupt", 130, "1 of 1"),
        ("raise ValueError('mine')", 1, "ValueError: mine"),
    ],
)
def test_the_exit_code_is_the_scripts(run, script, last, code, said):
    result = run("run", script(last), code=code)
    assert said in result.output
    assert "runpy" not in result.output
    assert "cli/run.py" not in result.output


def test_what_is_wrong_with_the_call(run, script):
    assert "there is no script" in run("run", "none.py", code=2).output
    assert "name a script" in run("run", code=2).output
    assert "no folder" in run("run", script(), "--html", "missing/page.html", code=2).output
    refused = run("run", script(), "--budget", "3", code=2).output
    assert "smallest feasible" in refused
    assert "0 of 1 gradients planned" in refused
    assert "give --dry too" in run("run", script(), "--target", "cpu", code=2).output
