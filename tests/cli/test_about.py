"""What a page says of how it was made."""

from __future__ import annotations

import re

import jax

import ckptgrad as cg
from ckptgrad.cli.about import made_by
from ckptgrad.results.script_run import ScriptRun
from tests.cases.results import COVERAGE, FRONTIER, VALIDATION


def test_device_versions_command_and_date(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/ckptgrad", "frontier", "my model:loss", "model:args"])
    device, versions, command, date = made_by({"Frontier": FRONTIER, "Rules": COVERAGE})
    assert device == f"device: {FRONTIER.target}"
    assert f"ckptgrad {cg.__version__}, JAX {jax.__version__}, " in versions
    assert command == "$ ckptgrad frontier 'my model:loss' model:args"
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d ", date)


def test_results_without_a_device_say_none():
    assert len(made_by({"Rules": COVERAGE})) == 3
    assert made_by({"Validation": VALIDATION})[0].startswith("ckptgrad ")


def test_none_is_what_is_attached():
    assert made_by({"Gradients": ScriptRun("train.py", None, ())})[0] == f"device: {cg.target(None)}"
