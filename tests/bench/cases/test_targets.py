"""Plans for accelerators against their rivals."""

from __future__ import annotations

import ckptgrad as cg
from ckptgrad.bench.cases import targets
from ckptgrad.bench.registry import Bench
from ckptgrad.errors import MissingExtraError


def test_without_the_compiler_the_case_says_what_to_install(monkeypatch):
    def missing(name):
        raise MissingExtraError(f"compiling for {name}", "XLA's GPU compiler", "gpu-target")

    monkeypatch.setattr(cg, "target", missing)
    (left_out,) = targets.on_chip("h100", targets.sweeps, Bench(quick=True))
    assert "pip install 'ckptgrad[gpu-target]'" in left_out.skipped
