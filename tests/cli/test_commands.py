"""The commands, as a user calls them: on a module in the current folder."""

import inspect
import json
import re
import sys

import pytest
from typer.testing import CliRunner

import ckptgrad as cg
from ckptgrad.autodiff.rule import register, unregister
from ckptgrad.cli import app
from ckptgrad.meters.meter import meters

MODEL = """
import jax.numpy as jnp

width = 8

def loss(weights, x):
    for w in weights:
        x = x + jnp.tanh(x @ w)
    return jnp.mean(x**2)

def with_aux(weights, x):
    value = loss(weights, x)
    return value, {"value": value}

def vector(weights, x):
    return x

example_args = ([0.1 * jnp.eye(width)] * 6, jnp.ones((64, width)))

def make_args():
    return example_args

def breaks():
    raise RuntimeError("no data here")
"""
TARGET = ["climodel:loss", "climodel:example_args"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "climodel.py").write_text(MODEL)
    (tmp_path / "text.txt").write_bytes(b"to be or not to be, that is the question. " * 50)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "climodel", raising=False)

    def call(*words, code=0):
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, result.output
        return result

    return call


def test_plan(run):
    text = run("plan", *TARGET, "--budget", "0.5x").output
    assert "predicted peak" in text
    assert "climodel.py" in text


def test_plan_json(run):
    found = json.loads(run("plan", *TARGET, "--budget", "0.8x", "--policy", "sqrt", "--json").stdout)
    assert found["policy"] == "sqrt"
    assert found["peak_bytes"] <= found["budget_bytes"]


def test_costs(run):
    estimated, compiled = (run("plan", *TARGET, "--costs", source, "--json").stdout for source in ("estimate", "compile"))
    assert estimated == run("plan", *TARGET, "--json").stdout != compiled


@pytest.mark.parametrize("command", ["plan", "validate"])
def test_a_policy_that_the_module_of_the_user_registers(run, tmp_path, monkeypatch, command):
    module = "from climodel import *\nimport ckptgrad as cg\nfrom ckptgrad.planning.policy import get_policy\n"
    module += "cg.policy('mine')(lambda costs, budget: cg.Schedule(tuple(get_policy('store_all')(costs, budget)), 'mine'))\n"
    (tmp_path / "clipolicy.py").write_text(module)
    monkeypatch.delitem(sys.modules, "clipolicy", raising=False)
    few = ["--repeats", "1", "--meters", "none"] if command == "validate" else []
    assert "mine" in run(command, "clipolicy:loss", "clipolicy:example_args", "--policy", "mine", *few).output


@pytest.mark.parametrize(("command", "option"), [("timeline", "observe"), ("validate", "meters"), ("train", "meters")])
def test_help_lists_the_meters_that_there_are(command, option):
    callback = next(c.callback for c in app.registered_commands if c.callback.__name__ == command)
    annotation = inspect.signature(callback, eval_str=True).parameters[option].annotation
    (typed,) = annotation.__metadata__
    assert {*meters()} <= {*re.findall(r"\w+", typed.help)}


def test_arguments_from_a_function(run):
    assert run("plan", TARGET[0], "climodel:make_args").output == run("plan", *TARGET).output


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", *TARGET, "--budget", "12 potatoes"], "12 potatoes"),
        (["plan", *TARGET, "--budget", "3 B"], "smallest feasible peak"),
        (["plan", *TARGET, "--policy", "magic"], "magic"),
        (["validate", *TARGET, "--policy", "magic"], "magic"),
        (["plan", *TARGET, "--costs", "guess"], "there are auto, estimate, compile, measure"),
        (["plan", *TARGET, "--target", "abacus"], "is not known"),
        (["plan", *TARGET, "--argnums", "one"], "write a number"),
        (["validate", *TARGET, "--budget", "-1"], "greater than zero"),
        (["plan", "climodel", TARGET[1]], "module:name"),
        (["plan", "no_such_module:loss", TARGET[1]], "cannot import"),
        (["plan", "climodel:lost", TARGET[1]], "no 'lost'"),
        (["plan", "climodel:width", TARGET[1]], "not a function"),
        (["plan", TARGET[0], "climodel:width"], "must be, or return, a tuple"),
        (["plan", TARGET[0], "climodel:breaks"], "no data here"),
        (["plan", "climodel:make_args", TARGET[1]], "does not take the 2 arguments"),
        (["plan", "climodel:vector", TARGET[1]], "scalar"),
        (["plan", *TARGET, "--argnums", "7"], "argnums"),
        (["timeline", *TARGET, "--observe", "thermometer"], "no meter 'thermometer'"),
        (["validate", *TARGET, "--meters", "thermometer"], "no meter 'thermometer'"),
        (["train", "--width", "10", "--heads", "3"], "does not divide"),
        (["train", "--text", "missing.txt"], "cannot read the text"),
        (["train", "--text", "text.txt", "--context", "5000"], "smaller context"),
        (["train", "--budget", "12 potatoes"], "12 potatoes"),
        (["train", "--depth", "0"], "depth"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(run, words, message):
    result = run(*words, code=2)
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["plan", "timeline", "frontier"])
def test_pages_and_pictures(run, command, tmp_path):
    result = run(command, *TARGET, "--html", "out/report.html", "--png", "out/picture.png")
    html = (tmp_path / "out/report.html").read_text()
    assert "climodel" in html
    assert "data:image/png;base64," in html
    assert (tmp_path / "out/picture.png").read_bytes()[:4] == b"\x89PNG"
    assert "written: out/report.html" in result.stderr


def test_all_pictures_into_a_folder(run, tmp_path):
    run("plan", *TARGET, "--png", "pictures", "--diagram")
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["schedule.png", "stage_costs.png", "timeline.png"]


def test_timeline_and_frontier_json(run):
    found = json.loads(run("timeline", *TARGET, "--budget", "0.6x", "--observe", "xla,ledger", "--json").stdout)
    assert set(found["readings"]) == {"xla", "ledger"}
    found = json.loads(run("frontier", *TARGET, "--no-reference", "--json").stdout)
    assert "jax.grad" not in [p["policy"] for p in found["others"]]


def test_a_page_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in run("plan", *TARGET, "--html", "file/report.html", code=2).stderr


def test_train(run, tmp_path):
    small = ["--depth", "2", "--width", "16", "--heads", "2", "--context", "16", "--batch", "8", "--steps", "20"]
    words = ["--learning-rate", "0.01", "--text", "text.txt", "--budget", "0.8x", "--meters", "none", "--repeats", "1"]
    found = json.loads(run("train", *small, *words, "--json", "--html", "train.html", "--png", "drawn").stdout)
    assert len(found["losses"]) == 20
    assert found["losses"][-1] < found["losses"][0] - 1
    assert found["certified_peak_bytes"] <= found["plan"]["budget_bytes"]
    assert found["validation"]["passed"]
    assert found["sample"].startswith("The ")
    assert "Validation" in (tmp_path / "train.html").read_text()
    assert (tmp_path / "drawn/schedule.png").exists()


def test_rules_lists_every_primitive(run):
    text = run("rules").output
    for part in ("dot_general", "pmax", "refused", "in jax.extend.core.primitives", "while"):
        assert part in text
    rows = json.loads(run("rules", "--json").output)
    assert {row["status"] for row in rows} == {"differentiated", "zero", "refused"}
    assert sum(row["public"] for row in rows) >= 170


def test_rules_as_a_page_and_a_picture(run, tmp_path):
    run("rules", "--html", "rules.html", "--png", "rules.png")
    assert "<td>dot_general</td>" in (tmp_path / "rules.html").read_text()
    assert (tmp_path / "rules.png").read_bytes()[:4] == b"\x89PNG"


def test_rules_exits_with_1_when_a_primitive_is_in_none_of_the_three(run):
    own = unregister("tanh")
    try:
        assert "missing" in run("rules", code=1).output
    finally:
        register(own)


def test_version(run):
    assert run("--version").output == f"ckptgrad {cg.__version__}\n"
