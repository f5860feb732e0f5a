"""Which frames are the user's."""

from __future__ import annotations

import os
import sysconfig

import jax
import pytest

import ckptgrad
from ckptgrad.graph.source import SourceLine, is_user_file

HERE = os.path.dirname(ckptgrad.__file__)
PATHS = sysconfig.get_paths()

FILES = {
    __file__: True,
    os.path.join(PATHS["purelib"], "someone", "layers.py"): True,
    os.path.join(PATHS["stdlib"], "functools.py"): False,
    os.path.join(os.path.dirname(jax.__file__), "numpy", "__init__.py"): False,
    os.path.join(HERE, "api.py"): False,
    os.path.join(HERE, "graph", "trace.py"): False,
    os.path.join(HERE, "bench", "models.py"): True,
    os.path.join(HERE, "training", "model.py"): True,
    HERE + "_of_another" + os.sep + "code.py": True,
    "<string>": True,
}


@pytest.mark.parametrize(("file", "users"), FILES.items())
def test_user_files(file, users):
    assert is_user_file(file) == users


def test_a_line_as_text():
    line = SourceLine("/somewhere/layers.py", 7, "loss.<locals>.inner")
    assert str(line) == "/somewhere/layers.py:7 (loss.<locals>.inner)"
    assert line.brief == "layers.py:7 (inner)"


def test_what_xla_is_told_names_the_user_and_not_ours():
    def loss(x):
        return (jax.numpy.sin(x) ** 2).sum()

    text = jax.jit(ckptgrad.grad(loss)).lower(jax.numpy.ones(3)).as_text(debug_info=True)
    assert __file__ in text
    assert HERE + os.sep not in text
