"""Sparse matrices in whole losses: as arguments, inside loops, under budgets, and their rules replaced by JAX's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

import ckptgrad as cg
from ckptgrad.autodiff.rule import register, unregister
from tests.support.compare import assert_same

ADJACENCY = sparse.BCOO.fromdense(jnp.eye(4) + jnp.eye(4, k=1))
X = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)


def graph_network(x, adjacency=ADJACENCY):
    x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(adjacency @ x), None), x, None, length=3)
    return jnp.sum(jnp.tanh(adjacency @ x) ** 2)


def test_through_a_graph_network_within_a_budget():
    wanted = jax.grad(graph_network)(X)
    for budget in (None, "min"):
        assert_same(cg.grad(graph_network, budget=budget)(X), wanted, scale=20)
    assert_same(cg.jvp(graph_network, (X,), (X,))[1], jax.jvp(graph_network, (X,), (X,))[1], scale=20)


@pytest.mark.parametrize("form", [sparse.BCOO, sparse.BCSR, sparse.CSR])
def test_towards_a_sparse_argument(form):
    matrix = form.fromdense(ADJACENCY.todense(), nse=7)
    ours = cg.grad(lambda m: graph_network(X, m), allow_int=True)(matrix)
    dense = jax.grad(lambda m: graph_network(X, m))(matrix.todense())
    assert isinstance(ours, form)
    np.testing.assert_allclose(form((ours.data, *jax.tree.leaves(matrix)[1:]), shape=(4, 4)).todense(),
                               jnp.where(matrix.todense() != 0, dense, 0), rtol=1e-5)  # fmt: skip


def test_rules_of_jax_in_the_place_of_ours():
    wanted = jax.grad(graph_network)(X)
    ours = unregister("bcoo_dot_general")
    try:
        with pytest.raises(cg.MissingRuleError, match=r"use_jax_rule\('bcoo_dot_general'\)") as caught:
            cg.grad(graph_network)(X)
        assert len(caught.value.remedies) == 1
        cg.use_jax_rule("bcoo_dot_general")
        assert_same(cg.grad(graph_network)(X), wanted, scale=20)
    finally:
        unregister("bcoo_dot_general")
        register(ours)
