"""Cases, peers and rows."""

from __future__ import annotations

import importlib.util
import re

import pytest

from ckptgrad.bench import peers
from ckptgrad.bench.cases import loops, steps, torch_eager
from ckptgrad.bench.registry import Bench, CaseError, case, get_cases, registered, unregister
from ckptgrad.bench.rows import Row, row
from ckptgrad.planning.policies.revolve import extra_forwards


@pytest.fixture
def free_name():
    yield "mine"
    unregister("mine")


def test_every_case_says_what_it_compares():
    for name, registered_case in registered().items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert registered_case.title
        assert len(registered_case.about.split()) > 10, name


def test_a_case_is_a_decorated_function(free_name):
    @case(free_name, "Mine against theirs")
    def mine(bench):
        """What the columns mean."""
        yield row("ours", steps=bench.size(100, 2))

    (new_case,) = get_cases([free_name])
    assert (new_case.title, new_case.about) == ("Mine against theirs", "What the columns mean.")
    assert [r.values for r in new_case.run(Bench(quick=True))] == [{"steps": 2}]
    with pytest.raises(CaseError, match="'mine' is already registered"):
        case(free_name, "Again")(mine)


def test_an_unknown_case_is_refused_with_the_known_ones():
    with pytest.raises(CaseError, match=r"unknown case 'nope'; choose from .*steps"):
        get_cases(["steps", "nope"])
    with pytest.raises(CaseError, match="unknown case 'nope'"):
        unregister("nope")


def test_a_row_leaves_out_unknown_values():
    measured = row("ours", "tanh", certified_bytes=1, resident_bytes=None, note="a word")
    assert measured == Row("ours", "tanh", {"certified_bytes": 1}, "a word")
    assert Row.from_dict(measured.to_dict()) == measured


@pytest.fixture
def without_peers(monkeypatch):
    names = {peer.module for peer in peers.PEERS}
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name in names else find_spec(name))


def test_a_missing_peer_says_how_to_install_it_and_has_no_version(without_peers):
    assert peers.EQUINOX.skip == "equinox is not installed: pip install 'ckptgrad[peers]'"
    assert "CPU build" in peers.TORCH_CPU.skip
    assert all(peer.version is None for peer in peers.PEERS)


@pytest.mark.parametrize(
    ("run", "missing"),
    [
        (loops.whiles, ["equinox", "diffrax"]),
        (steps.steps, ["checkpoint-schedules"]),
        pytest.param(loops.scans, ["equinox"], marks=pytest.mark.slow),
        pytest.param(torch_eager.torch, ["torch"], marks=pytest.mark.slow),
    ],
)
def test_a_case_runs_without_its_peers(run, missing, without_peers):
    rows = list(run(Bench(quick=True)))
    left_out = " ".join(r.skipped for r in rows)
    assert all(f"{name} is not installed" in left_out for name in missing)
    assert any(not r.skipped and r.run.startswith("ours") for r in rows)


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
