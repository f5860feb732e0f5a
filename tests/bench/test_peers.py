"""Peers that are not installed, and cases without them."""

from __future__ import annotations

import importlib.util

import pytest

from ckptgrad.bench import peers
from ckptgrad.bench.cases import loops, steps, torch_eager
from ckptgrad.bench.registry import Bench


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
