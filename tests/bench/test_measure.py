"""Programs side by side."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.bench import measure
from ckptgrad.bench.measure import certified_program, compare_programs, first_compilations, peer_program

X = jnp.linspace(0.1, 1.0, 4096)


def loss(x):
    return jnp.sum(jnp.sin(x) ** 2)


@pytest.fixture(scope="module")
def programs():
    other = lambda x: jax.value_and_grad(lambda x: 1.5 * loss(x))(x)
    return [
        peer_program("jax.grad", jax.value_and_grad(loss), (X,)),
        peer_program("wrong", other, (X,)),
        certified_program("ours", loss, (X,), budget="1x"),
        peer_program("another structure", lambda x: (0.0, {"x": x}), (X,), comparable=False),
    ]


def test_rows_compare_with_the_first_program(programs, monkeypatch):
    monkeypatch.setattr(measure, "alternate", lambda calls, rounds: [[s] * rounds for s in (2.0, 4.0, 1.0, 1.0)])
    first, wrong, ours, other = compare_programs(programs, 3, "group", state_bytes=X.nbytes, rival=1)
    assert [row.run for row in (first, wrong, ours, other)] == ["jax.grad", "wrong", "ours", "another structure"]
    assert [row.values["time_ratio"] for row in (first, wrong, ours)] == [1.0, 2.0, 0.5]
    assert (first.values["difference"], first.values["bits"]) == (0.0, "equal")
    assert wrong.values["difference"] == pytest.approx(0.5, rel=1e-3)
    assert ours.values["difference"] < 1e-5
    assert "difference" not in other.values
    # Only programs after the rival are compared with it.
    assert "against_rival_ratio" not in wrong.values
    assert ours.values["against_rival_ratio"] == 0.25


def test_bytes_are_those_of_the_compiled_programs(programs):
    first, _, ours, _ = compare_programs(programs, 1, state_bytes=X.nbytes)
    assert X.nbytes <= first.values["certified_bytes"] - first.values["temporaries_bytes"] <= X.nbytes + 64
    assert first.values["temporaries_states"] == first.values["temporaries_bytes"] / X.nbytes
    assert "kept" not in first.values
    assert ours.values["kept"] is True
    assert ours.values["certified_bytes"] <= ours.values["budget_bytes"]


def test_first_compilations_take_turns_and_begin_from_nothing(monkeypatch):
    forgotten, announced, clock = [], [], [0.0]
    monkeypatch.setattr(measure, "forget_compilations", lambda: forgotten.append(1))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])

    def compile_for(seconds, args):
        clock[0] += seconds

    monkeypatch.setattr(measure, "compile_for", compile_for)
    rows = [*first_compilations({"one": 2.0, "other": 3.0}, (X,), 3, "group", announced.append)]
    assert announced == ["one", "other"] * 3
    assert len(forgotten) == 6
    assert [(row.run, row.values["compile_seconds"], row.values["compile_ratio"]) for row in rows] == [
        ("one", 2.0, 1.0),
        ("other", 3.0, 1.5),
    ]
