"""The gradients of a script, as a table."""

from __future__ import annotations

from ckptgrad.results.script_run import GradientCall, ScriptRun


def test_a_row_for_each_gradient():
    calls = (
        GradientCall("loss", "t.py:3", 2048, 4, 1, times=3),
        GradientCall("inner", "t.py:5", 2048, 4, 0, certified_bytes=4096, program="step"),
        GradientCall("other", "t.py:9", left="no rule. Write one"),
        GradientCall("small", "t.py:11", 1024, 2, 1, least="0.527x"),
        GradientCall("spread", "t.py:13", 1024, 2, 1, together=8),
    )
    text = [" ".join(line.split()) for line in str(ScriptRun("t.py", "1MiB", calls)).splitlines()]
    assert text[0] == "t.py: 4 of 5 gradients planned, budget 1MiB for each"
    assert "loss t.py:3 3 2.0 KiB - 4 1" in text
    assert "inner t.py:5 1 2.0 KiB 4.0 KiB (step) 4 0" in text
    assert any(line.startswith("other t.py:9 1 - - - - not planned: no rule") for line in text)
    assert any(line.startswith("small t.py:11 1 1.0 KiB - 2 1 smallest plan, 0.527x") for line in text)
    assert any(line.startswith("spread t.py:13 1 1.0 KiB - 2 1 predicted for 8") for line in text)
    assert "Write one" not in " ".join(text)
    assert "none is within the budget" in " ".join(text)
    assert "all of the program" in str(ScriptRun("t.py", "1MiB", calls))


def test_a_dry_run_says_for_what():
    assert "a dry run, compiled for H100" in str(ScriptRun("t.py", "1MiB", (GradientCall("f", "t.py:1"),), True, "H100"))


def test_no_gradient():
    assert "no gradient was asked for" in str(ScriptRun("t.py", None, ()))
