"""A `cond` with other branches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.graph.branching import branched

BRANCHES = [lambda x: x + 1, lambda x: x * 10]


@pytest.mark.parametrize(("index", "value"), [(0, 4), (1, 30)])
def test_branches_are_chosen_by_the_index(index, value):
    assert branched({}, index, BRANCHES, 3) == value


def test_where_platforms_choose_so_do_the_others():
    """The first branch is for a platform that is not here, the second for all others; no index is read."""

    def fun(x):
        return lax.platform_dependent(x, tpu=jnp.sin, default=jnp.cos)

    (op,) = [op for op in cg.trace(fun, 3.0).operations if op.name == "cond"]
    platforms = op.params["branches_platforms"]
    branches = [BRANCHES[0] if names else BRANCHES[1] for names in platforms]
    assert branched(op.params, None, branches, 3) == 30
    jaxpr = jax.make_jaxpr(lambda x: branched(op.params, None, branches, x))(3)
    (eqn,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "cond"]
    assert eqn.params["branches_platforms"] == platforms
