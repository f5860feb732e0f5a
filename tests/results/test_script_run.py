"""What is kept of a script's gradients."""

from __future__ import annotations

from ckptgrad.results.script_run import GradientCall, ScriptRun


def test_as_plain_data():
    run = ScriptRun("train.py", "1MiB", (GradientCall("loss", "train.py:3", 2048, 4, 1, times=3),))
    (call,) = run.to_dict()["calls"]
    assert (call["peak_bytes"], call["times"], call["left"]) == (2048, 3, "")
