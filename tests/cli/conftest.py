"""A module with a target, which prints, exits or raises where a test says."""

from __future__ import annotations

import sys

import pytest

MODULE = """
import os, sys
import jax, jax.numpy as jnp
{at_import}

def loss(x):
    {while_traced}
    return jnp.sum(jnp.sin(x) ** 2)

args = (jnp.ones(4),)

def make_args():
    {when_called}
    return args
"""


@pytest.fixture
def target(tmp_path, monkeypatch):
    """Writes the module; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(at_import="", while_traced="pass", when_called="pass"):
        name = f"target_{abs(hash((str(tmp_path), at_import, while_traced, when_called)))}"
        (tmp_path / f"{name}.py").write_text(
            MODULE.format(at_import=at_import, while_traced=while_traced, when_called=when_called)
        )
        return [f"{name}:loss", f"{name}:make_args"]

    yield write
    for name in [n for n in sys.modules if n.startswith("target_")]:
        del sys.modules[name]
