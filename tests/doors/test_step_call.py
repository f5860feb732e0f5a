"""What is donated and static of a call, by the numbers and names that `jax.jit` takes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors.step_call import JitOptions, step_call

X = jnp.ones(4)


def step(params, state, batch, flag=False):
    return jax.tree.map(lambda p: p + jnp.sum(batch), params), state


def donated(args, kwargs, **options):
    call = step_call(step, args, kwargs, JitOptions(**options))
    infos = jax.tree.leaves(call.jitted.lower(*call.args, **call.kwargs).args_info)
    return [name for name, info in zip(call.names, infos, strict=True) if info.donated]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"donate_argnums": (0, 1)}, ["params", "state"]),
        ({"donate_argnums": 1}, ["state"]),
        ({"donate_argnums": -2}, ["batch"]),
        ({"donate_argnames": "params"}, ["params"]),
        ({"donate_argnames": ["params", "batch"]}, ["params", "batch"]),
        ({"donate_argnums": 0, "donate_argnames": "state"}, ["params", "state"]),
    ],
)
@pytest.mark.parametrize("by_name", [0, 1, 3])
def test_numbers_and_names_mean_the_same_arguments(options, expected, by_name):
    given = {"params": X, "state": X, "batch": X}
    args = tuple(given.values())[: 3 - by_name]
    kwargs = dict([*given.items()][3 - by_name :])
    assert sorted(donated(args, kwargs, **options)) == sorted(expected)


def test_donation_counts_static_arguments():
    assert donated((X, X, X, True), {}, donate_argnums=(1, 2), static_argnums=3) == ["state", "batch"]
    call = step_call(lambda flag, x: x, (True, X), {}, JitOptions(static_argnums=0, donate_argnums=1))
    assert call.names == ["x"]
    assert [info.donated for info in jax.tree.leaves(call.jitted.lower(*call.args).args_info)] == [True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"donate_argnums": 7}, "donate_argnums=7 names argument 7"),
        ({"static_argnames": "flags"}, "names 'flags', which step"),
        ({"static_argnums": 0, "donate_argnums": 0}, "params is static, so that it cannot be donated"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    with pytest.raises(cg.OptionError, match=words):
        step_call(step, (X, X, X), {}, JitOptions(**options))


def test_static_values_are_told_apart_as_python_does():
    call = step_call(lambda x, n: x, (X, 1), {}, JitOptions(static_argnums=1))
    assert call.dynamic((X, 1), {}) == ((X,), {})
    for other in (2, True, 1.0):
        with pytest.raises(cg.StaticArgumentError):
            call.dynamic((X, other), {})


def test_a_step_must_be_a_function():
    with pytest.raises(cg.OptionError, match="must be a function"):
        cg.fit(3)
