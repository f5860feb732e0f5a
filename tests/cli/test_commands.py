"""The commands, as a user calls them: on a module in the current folder."""

import inspect
import json
import re
import sys

import pytest

import ckptgrad as cg
from ckptgrad.autodiff.rule import register, unregister
from ckptgrad.cli import app
from ckptgrad.meters.meter import meters
from tests.cli.model import TARGET


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


def test_a_page_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in run("plan", *TARGET, "--html", "file/report.html", code=2).stderr


def test_rules_lists_every_primitive(run):
    text = run("rules").output
    for part in ("dot_general", "pmax", "refused", "in jax.extend.core.primitives", "while"):
        assert part in text
    rows = json.loads(run("rules", "--json").output)
    assert {row["status"] for row in rows} == {"differentiated", "zero", "refused"}
    assert sum(row["public"] for row in rows) >= 170


def test_rules_whose_names_have_a_part(run):
    rows = json.loads(run("rules", "cumsum", "cosh", "--json").output)
    assert {"cumsum", "cosh", "acosh"} <= {row["primitive"] for row in rows}
    assert all("cumsum" in row["primitive"] or "cosh" in row["primitive"] for row in rows)
    assert "no primitive has 'nothing like it'" in run("rules", "nothing like it", code=2).stderr


@pytest.mark.parametrize("option", ["--html", "--png", "--trace", "--csv"])
def test_a_file_in_a_folder_that_is_not_there_is_refused_before_any_work(run, option):
    assert "there is no folder 'missing'" in run("timeline", "no:such", "no:args", option, "missing/a.png", code=2).stderr


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
