"""JAX's plugins for GPUs: which are installed, and how one is registered on a machine without a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import os
from contextlib import suppress

import jax.numpy as jnp

CUDA_PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")


def installed_cuda_plugin() -> str | None:
    """The module of JAX's plugin for NVIDIA's GPUs; None where it is not installed."""
    for name in CUDA_PLUGINS:
        with suppress(ModuleNotFoundError):  # where no plugin at all is installed
            if importlib.util.find_spec(name) is not None:
                return name
    return None


def register_cuda_compiler() -> bool:
    """Register the plugin although there is no driver for it; return whether it is installed.

    Unless JAX_PLATFORMS leaves GPUs out, JAX passes over a plugin without its libraries and driver; its compiler needs
    neither.  JAX's backends are made first, so that none is sought by the plugin.
    """
    name = installed_cuda_plugin()
    if name is None:
        return False
    jnp.zeros(())
    skip = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"
    before = os.environ.get(skip)
    os.environ[skip] = "1"
    try:
        importlib.import_module(name).initialize()
    finally:
        os.environ.pop(skip)
        os.environ.update({} if before is None else {skip: before})
    return True
