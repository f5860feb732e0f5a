"""Tracebacks with the user's lines alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.cli.tracebacks import users_traceback


def wrong(x):
    return jnp.dot(x, jnp.ones(3))


def through_libraries(x):
    return jnp.sum(jax.jit(wrong)(x))


def from_another(x):
    try:
        through_libraries(x)
    except TypeError as error:
        raise KeyError("lost") from error


@pytest.mark.parametrize(("function", "lines"), [(through_libraries, 2), (from_another, 3)])
def test_only_the_users_lines(function, lines):
    with pytest.raises((TypeError, KeyError)) as caught:
        cg.plan(function, jnp.ones(4))
    text = users_traceback(caught.value)
    frames = [line for line in text.splitlines() if line.startswith("  File ")]
    assert sum("test_tracebacks.py" in frame and " in test_" not in frame for frame in frames) >= lines
    assert all("test_tracebacks.py" in frame for frame in frames)
    assert "in wrong" in text
    assert "JAX has removed" not in text


def test_without_lines_of_the_users_there_is_nothing_to_show():
    assert users_traceback(ValueError("ours")) == ""


def test_a_line_that_cannot_be_read_is_shown():
    with pytest.raises(SyntaxError) as caught:
        compile("def f(:", "theirs.py", "exec")
    assert 'File "theirs.py", line 1' in users_traceback(caught.value)
