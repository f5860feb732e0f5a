"""The gradients of a script, as a table."""

from __future__ import annotations

from ckptgrad.results.script_run import GradientCall, ScriptRun


def test_a_row_for_each_gradient():
    calls = (GradientCall("loss", "t.py:3", 2048, 4, 1, times=3), GradientCall("other", "t.py:9", left="no rule"))
    text = [" ".join(line.split()) for line in str(ScriptRun("t.py", "1MiB", calls)).splitlines()]
    assert text[0] == "t.py: 1 of 2 gradients planned, budget 1MiB for each; peaks are predicted"
    assert "loss t.py:3 3 2.0 KiB 4 1" in text
    assert any(line.startswith("other t.py:9 1 - - - no rule") for line in text)


def test_no_gradient():
    assert "no gradient was asked for" in str(ScriptRun("t.py", None, ()))
