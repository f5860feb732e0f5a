"""Modules in the current folder: a model, and one that prints, exits or raises where a test says."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from ckptgrad.cli import app
from tests.cli.model import MODEL

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
def user_module(tmp_path, monkeypatch):
    """Writes the module; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(at_import="", while_traced="pass", when_called="pass"):
        name = f"user_module_{abs(hash((str(tmp_path), at_import, while_traced, when_called)))}"
        (tmp_path / f"{name}.py").write_text(
            MODULE.format(at_import=at_import, while_traced=while_traced, when_called=when_called)
        )
        return [f"{name}:loss", f"{name}:make_args"]

    yield write
    for name in [n for n in sys.modules if n.startswith("user_module_")]:
        del sys.modules[name]


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "climodel.py").write_text(MODEL)
    (tmp_path / "text.txt").write_bytes(b"to be or not to be, that is the question. " * 50)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "climodel", raising=False)

    def call(*words, code=0):
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, result.output
        return result

    return call
