"""Which frames are the user's."""

from __future__ import annotations

import os
import sysconfig

import jax
import pytest

import ckptgrad
import ckptgrad_command
from ckptgrad.graph.source import SourceLine, is_user_file, nearest_line, scope_of

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
    ckptgrad_command.__file__: False,
    os.path.join(PATHS["scripts"], "ckptgrad"): False,
    os.path.relpath(os.path.join(PATHS["scripts"], "ckptgrad")): False,
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


LIBRARY = (os.path.join(PATHS["purelib"], "someone", "layers.py"), 3, "Dense.__call__")
MINE = ("/models/model.py", 5, "GPT.__call__")
COMMAND = (os.path.join(PATHS["scripts"], "ckptgrad"), 8, "<module>")


def test_installed_packages_are_passed_over_for_the_users_nearest_frame():
    jaxs = (jax.__file__, 1, "bind")
    assert nearest_line([jaxs, LIBRARY, MINE, COMMAND]) == SourceLine(*MINE)
    assert nearest_line([jaxs, LIBRARY, COMMAND, ("<frozen runpy>", 88, "_run_code")]) == SourceLine(*LIBRARY)
    assert nearest_line([jaxs]) is None


def test_a_scope_is_the_users():
    assert scope_of("jit(f)/backward_12/GPT/vmap(Block_0/eqx.nn.Linear)/checkpoint(mlp)") == "GPT/Block_0"
    assert scope_of("jit(f)/GPT/jit(_einsum)/bhqk,bhkd->bhqd/attn") == "GPT/attn"
    assert SourceLine(*MINE, "GPT/Block_0") == SourceLine(*MINE)


def test_what_a_cached_jit_does_has_the_line_and_scope_of_each_call():
    """JAX traces it once, for the first call."""

    @jax.jit
    def shared(x):
        return jax.numpy.var(x, axis=0)

    def loss(x):
        with jax.named_scope("one"):
            x = jax.numpy.tanh(jax.nn.gelu(x))
        with jax.named_scope("two"):
            return shared(jax.nn.gelu(x))

    found = {str(op.source_info.name_stack) for op in ckptgrad.trace(loss, jax.numpy.ones((3, 4))).operations}
    lines = {op.source.file for op in ckptgrad.trace(loss, jax.numpy.ones((3, 4))).operations}
    assert found == {"one", "two"}
    assert lines == {__file__}
