"""Every primitive that is differentiated has a class of cost, and no class names what is no primitive."""

from __future__ import annotations

from itertools import combinations

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir

import ckptgrad as cg
from ckptgrad.autodiff.rule import registered, unregister
from ckptgrad.graph.traits import CLASSES, cost_class, is_heavy, is_materialised, is_product
from ckptgrad.graph.work import flops
from ckptgrad.loops.planned import BACKWARD, FORWARD
from ckptgrad.rules.coverage import public_primitives
from ckptgrad.target.footprint import materialised

NAMED = frozenset().union(*CLASSES.values())


def test_each_differentiated_primitive_has_a_class():
    differentiated = {n for n, rule in registered().items() if rule.kind not in ("zero", "refused", "inlined")}
    stated = {n for n in differentiated if registered()[n].cost is not None}
    assert differentiated - NAMED - stated == set()


def test_each_name_is_a_primitive_and_in_one_class():
    known = {*registered(), *public_primitives(), FORWARD, BACKWARD}
    assert NAMED - known == set()
    assert all(not a & b for a, b in combinations(CLASSES.values(), 2))


KINDS = {
    "ragged_dot_general": "product", "psum_invariant": "heavy", "all_gather_invariant": "heavy", "scatter-mul": "heavy",
    "scatter-max": "heavy", "scatter-min": "heavy", "scatter-sub": "heavy", "approx_top_k": "heavy", "reduce": "reduction",
    "sin": "transcendental", "add": "elementwise", "reshape": "view", "gather": "gathering", "nobody's own": "elementwise",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_classes(name, kind):
    assert cost_class(name) == kind


@pytest.mark.parametrize("over", ["rows", "contracted"])
def test_a_ragged_product_does_the_work_of_the_dense_one(over):
    m, k, n, groups = 64, 32, 128, 4
    sizes = jnp.array([16] * groups)
    if over == "rows":
        graph = cg.trace(jax.lax.ragged_dot, jnp.ones((m, k)), jnp.ones((groups, k, n)), sizes)
    else:
        numbers = jax.lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), [0], [])
        fun = lambda a, b, s: jax.lax.ragged_dot_general(a, b, s, numbers)
        graph = cg.trace(fun, jnp.ones((m, k)), jnp.ones((m, n)), sizes)
    (ragged,) = (op for op in graph.operations if op.name.startswith("ragged_dot"))
    assert flops(ragged) == 2 * m * k * n
    assert is_product(ragged)
    assert is_heavy(ragged)


def test_a_general_reduction_has_memory_of_its_own():
    reduce = lambda x: jax.lax.reduce(x, 0.0, lambda a, b: a + jnp.sin(b) * 0 + b, (0, 2))
    graph = cg.trace(reduce, jnp.ones((4, 5, 6)))
    (op,) = (op for op in graph.operations if op.name == "reduce")
    assert is_materialised(op)
    assert graph.inputs[0] in materialised([op], ())


@pytest.fixture
def own():
    primitive = Primitive("own_with_a_class")
    primitive.def_abstract_eval(lambda x: x)
    mlir.register_lowering(primitive, mlir.lower_fun(lambda x: 2 * x, multiple_results=False))
    yield primitive
    unregister("own_with_a_class")


@pytest.mark.parametrize("kind", [None, *CLASSES])
def test_a_rule_states_its_class(own, kind):
    cg.bprop_rule("own_with_a_class", cost=kind)(lambda op, g: (2 * g,))
    assert cost_class("own_with_a_class") == (kind or "elementwise")
    (op,) = cg.trace(own.bind, jnp.ones(3)).operations
    assert is_heavy(op) == (kind in ("product", "heavy"))


def test_an_unknown_class_is_refused():
    with pytest.raises(cg.OptionError, match="there are product, heavy"):
        cg.bprop_rule("never", cost="dear")
