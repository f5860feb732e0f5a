"""Forward steps, against the checkpoint-schedules package."""

from __future__ import annotations

from ckptgrad.bench.cases import steps
from ckptgrad.bench.registry import Bench
from ckptgrad.binomial import extra_forwards


def test_schedules_take_as_many_steps_as_the_package():
    forward_steps = {(r.group, r.run): r.values["forward_steps"] for r in steps.steps(Bench(quick=True))}
    for n, s in steps.QUICK_SIZES:
        group = f"n = {n}, s = {s}"
        binomial = n + extra_forwards(n, s)
        assert forward_steps[group, "ours, revolve"] == forward_steps[group, "checkpoint-schedules, Revolve"] == binomial
        assert forward_steps[group, "ours, loop"] <= binomial + s + 1
        mixed = forward_steps[group, "ours, optimal in the mixed model"]
        assert mixed == forward_steps[group, "checkpoint-schedules, Mixed"]
    assert forward_steps["n = 50, s = 5", "ours, optimal in the mixed model"] == 138
