"""Shared by all tests: the CPU, deterministic hypothesis examples, double precision on request."""

from __future__ import annotations

import os

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
