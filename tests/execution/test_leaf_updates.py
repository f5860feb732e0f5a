"""Updates in parts: each operation runs once, for the gradient that it depends on."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.errors import OptionError
from ckptgrad.execution.leaf_updates import split_update
from ckptgrad.target.platform import Isolation


def update(g, h, count, a, b):
    rate = jnp.exp(-count)
    dropped = g * h
    del dropped
    return a - rate * g, b - rate * jnp.sin(h), count + 1, b * 2, 3.0


ARGUMENTS = [jnp.full(3, k + 1.0) for k in range(2)] + [jnp.float32(0.5)] + [jnp.full(3, k + 7.0) for k in range(2)]


def test_results_are_those_of_the_whole():
    graph = cg.trace(update, *ARGUMENTS)
    split = split_update(graph, ["g", "h"], "Optimizer")
    env = split.start(ARGUMENTS[2:])
    for k in (1, 0):
        env.update(split.update(k, ARGUMENTS[k], env, Isolation.NONE))
    for ours, theirs in zip(split.results(env), update(*ARGUMENTS), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def names(run):
    return [op.name for op in run.operations if op.name != "convert_element_type"]


def test_what_several_parts_read_is_shared_and_the_rest_runs_where_it_is_needed():
    split = split_update(cg.trace(update, *ARGUMENTS), ["g", "h"], "Optimizer")
    assert sorted(names(split.shared)) == ["add", "exp", "mul", "neg"]
    assert [names(part) for part in split.parts] == [["mul", "sub"], ["sin", "mul", "sub"]]


def test_what_depends_on_two_gradients_is_refused_unless_nothing_reads_it():
    graph = cg.trace(lambda g, h, a: (a - g / jnp.sum(h), a - h), *ARGUMENTS[:3])
    with pytest.raises(OptionError, match=r"the update of g depends on the gradients of h too \(div at .*test_leaf_updates"):
        split_update(graph, ["g", "h"], "Optimizer")
