"""Shared by all tests: the CPU, deterministic hypothesis examples, double precision on request."""

from __future__ import annotations

import gc
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CKPTGRAD_CACHE", "off")

import jax
import pytest
from hypothesis import HealthCheck, settings

from ckptgrad.autodiff import rule as registry
from ckptgrad.planning.policy import registered, unregister
from ckptgrad.target.attached import forget_measured_rates

# No time limits, because a first example compiles. `--hypothesis-profile=search` looks for new examples.
_QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, database=None, max_examples=25, **_QUIET)
settings.register_profile("search", max_examples=500, **_QUIET)
settings.load_profile("repeatable")


# Rows of tables and others that were found to be slow; tests that are written to be so carry the mark themselves.
_SLOW = Path(__file__).parent / "tests" / "slow.txt"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of the list, and refuse a list with names of tests that are gone."""
    listed = {line for line in _SLOW.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")}
    found = {item.nodeid for item in items}
    for item in items:
        if item.nodeid in listed:
            item.add_marker(pytest.mark.slow)
    if not any("::" in argument for argument in config.args):
        files = {name.partition("::")[0] for name in found}
        gone = sorted(name for name in listed - found if name.partition("::")[0] in files)
        if gone:
            raise pytest.UsageError(f"{_SLOW} names tests that are not there: {', '.join(gone)}")


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: garbage is looked for among what tests make only."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def restore_registries():
    """Rates, rules and policies that a test or an example registers are gone afterwards."""
    rules, policies = registry.registered(), registered()
    yield
    forget_measured_rates()
    for name in registry.registered().keys() - rules.keys():
        registry.unregister(name)
    for name in registered().keys() - policies.keys():
        unregister(name)


@pytest.fixture
def x64():
    """Double precision during the test."""
    with jax.enable_x64(True):
        yield
