"""Cases, peers and rows."""

from __future__ import annotations

import importlib.util
import re

import pytest

from ckptgrad.bench import peers, registry
from ckptgrad.bench.cases import loops, steps, torch_eager
from ckptgrad.bench.registry import Bench, CaseError, case, get_cases, registered
from ckptgrad.bench.rows import Row, row
from ckptgrad.planning.policies.revolve import extra_forwards


@pytest.fixture
def empty(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", {})


def test_every_case_says_what_it_compares():
    for name, found in registered().items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert found.title
        assert len(found.about.split()) > 10, name


def test_a_case_is_a_decorated_function(empty):
    @case("mine", "Mine against theirs")
    def mine(bench):
        """What the columns mean."""
        yield row("ours", steps=bench.size(100, 2))

    (found,) = get_cases(["mine"])
    assert (found.title, found.about) == ("Mine against theirs", "What the columns mean.")
    assert [r.values for r in found.run(Bench(quick=True))] == [{"steps": 2}]
    with pytest.raises(CaseError, match="'mine' is already registered"):
        case("mine", "Again")(mine)


def test_an_unknown_case_is_named_with_those_there_are():
    with pytest.raises(CaseError, match=r"unknown case 'nope'; choose from .*steps"):
        get_cases(["steps", "nope"])


def test_a_row_leaves_out_what_is_not_known():
    found = row("ours", "tanh", certified_bytes=1, resident_bytes=None, note="a word")
    assert found == Row("ours", "tanh", {"certified_bytes": 1}, "a word")
    assert Row.from_dict(found.to_dict()) == found


@pytest.fixture
def without_peers(monkeypatch):
    names = {peer.module for peer in peers.PEERS}
    found = importlib.util.find_spec
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name in names else found(name))


def test_a_missing_peer_has_a_word_and_no_version(without_peers):
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
def test_a_case_goes_on_without_its_peers(run, missing, without_peers):
    rows = list(run(Bench(quick=True)))
    left_out = " ".join(r.skipped for r in rows)
    assert all(f"{name} is not installed" in left_out for name in missing)
    assert any(not r.skipped and r.run.startswith("ours") for r in rows)


def test_numbers_of_steps_are_those_of_the_package():
    found = {(r.group, r.run): r.values["forward_steps"] for r in steps.steps(Bench(quick=True))}
    for n, s in steps.QUICK_SIZES:
        group = f"n = {n}, s = {s}"
        binomial = n + extra_forwards(n, s)
        assert found[group, "ours, revolve"] == found[group, "checkpoint-schedules, Revolve"] == binomial
        assert found[group, "ours, loop"] <= binomial + s + 1
        assert found[group, "ours, optimal in the mixed model"] == found[group, "checkpoint-schedules, Mixed"]
    assert found["n = 50, s = 5", "ours, optimal in the mixed model"] == 138
