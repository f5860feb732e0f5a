"""JAX's plugins for GPUs: found, and registered without a driver."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ckptgrad.compat import plugins

SKIP = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"


@pytest.fixture
def installed(monkeypatch):
    """Makes plugins look installed; what was initialised, with the variable that passes over the driver."""
    names, seen = set(), []
    monkeypatch.setattr(plugins.importlib.util, "find_spec", lambda name: name if name in names else None)
    module = SimpleNamespace(initialize=lambda: seen.append(os.environ.get(SKIP)))
    monkeypatch.setattr(plugins.importlib, "import_module", lambda name: module)
    return names, seen


def test_the_newest_is_taken(installed):
    names, _ = installed
    assert plugins.installed_cuda_plugin() is None
    names.add("jax_plugins.xla_cuda12")
    assert plugins.installed_cuda_plugin() == "jax_plugins.xla_cuda12"
    names.add("jax_plugins.xla_cuda13")
    assert plugins.installed_cuda_plugin() == "jax_plugins.xla_cuda13"


def test_where_no_plugin_at_all_is_installed_there_is_no_package(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("jax_plugins")

    monkeypatch.setattr(plugins.importlib.util, "find_spec", missing)
    assert plugins.installed_cuda_plugin() is None
    assert not plugins.register_cuda_compiler()


@pytest.mark.parametrize("before", [None, "0"])
def test_it_is_registered_without_a_driver_and_the_environment_stays(installed, monkeypatch, before):
    names, seen = installed
    names.add("jax_plugins.xla_cuda12")
    monkeypatch.delenv(SKIP, raising=False)
    if before is not None:
        monkeypatch.setenv(SKIP, before)
    assert plugins.register_cuda_compiler()
    assert seen == ["1"]
    assert os.environ.get(SKIP) == before
