"""Every primitive that is differentiated states a class of cost, and the classes are those that plans were made with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir

import ckptgrad as cg
from ckptgrad.autodiff.rule import registered, unregister
from ckptgrad.graph.traits import (
    CLASSES,
    cost_class,
    is_all_in_order,
    is_heavy,
    is_materialised,
    is_product,
    state_class,
    stated_class,
)
from ckptgrad.graph.work import flops
from ckptgrad.target.stored import materialised
from ckptgrad.target.target import described

# The classes of all primitives but the elementwise ones without a derivative; a change here changes what is planned.
EXPECTED = {
    "product": """
        conv_general_dilated dot_general ragged_dot_general
    """,
    "heavy": """
        all_gather all_gather_invariant all_gather_reduced all_to_all approx_top_k bcoo_dot_general
        bcoo_dot_general_sampled bcoo_fromdense bcoo_sort_indices bcoo_spdot_general bcoo_sum_duplicates bcoo_todense
        bcsr_dot_general bcsr_fromdense bcsr_todense call_hi_primitive cholesky cholesky_update cond coo_fromdense
        coo_matmat coo_matvec coo_todense csr_fromdense csr_matmat csr_matvec csr_todense cumlogsumexp cummax cummin
        cumprod cumsum custom_linear_solve custom_vjp_call custom_vmap_call eig eigh fft geqp3 geqrf hessenberg
        householder_product linear_call loop_backward loop_forward lu ormqr pmax pmin ppermute psum psum_invariant qr
        ragged_all_to_all random_gamma reduce_scatter reduce_window reduce_window_max reduce_window_min
        reduce_window_sum rng_bit_generator scan scatter scatter-add scatter-max scatter-min scatter-mul scatter-sub
        schur select_and_gather_add select_and_scatter select_and_scatter_add shard_map sort spsolve svd
        symmetric_product todense top_k triangular_solve tridiagonal tridiagonal_solve unreduced_psum
        unreduced_reduce_scatter while
    """,
    "random": """
        random_bits threefry2x32
    """,
    "reduction": """
        argmax argmin reduce reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor
    """,
    "gathering": """
        bcoo_extract bcsr_extract concatenate dynamic_update_slice gather stack
    """,
    "transcendental": """
        acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt cos cosh digamma erf erf_inv erfc exp exp2
        expm1 igamma igamma_grad_a igammac lgamma log log1p log2 logistic polygamma pow regularized_incomplete_beta sin
        sinh tan tanh zeta
    """,
    "view": """
        bcoo_transpose bitcast_convert_type broadcast_in_dim convert_element_type copy imag iota name nonbatchable
        nondifferentiable_backward not preduced pvary real reduced_vary_cast reduced_vary_cast_p reshape rev slice split
        squeeze stop_gradient tile transpose unstack vary_unreduced_cast vary_unreduced_cast_p xla_metadata_value
    """,
    "elementwise": """
        abs add add_any clamp complex conj custom_jvp_call device_put div dynamic_slice integer_pow layout_constraint
        max maybe_set min mul neg nextafter one_minus_square optimization_barrier pad pbroadcast planned_linear
        polynomial reduce_precision rem reshard rsqrt select_if_vmap select_n sharding_constraint sqrt square sub tie
    """,
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_classes_are_those_that_plans_were_made_with(kind):
    assert {name: stated_class(name) for name in EXPECTED[kind].split()} == dict.fromkeys(EXPECTED[kind].split(), kind)


def test_no_other_primitive_is_worth_more_than_elementwise_work():
    named = {name for names in EXPECTED.values() for name in names.split()}
    assert {cost_class(name) for name in registered().keys() - named} == {"elementwise"}


def test_each_rule_states_a_class():
    """But of what never stands in a graph, or is refused and of unknown cost."""
    assert [n for n, rule in registered().items() if rule.cost is None and rule.kind not in ("refused", "inlined")] == []


def test_a_primitive_without_a_statement_is_elementwise():
    assert stated_class("nobody's own") is None
    assert cost_class("nobody's own") == "elementwise"


@pytest.mark.parametrize(
    ("subscripts", "shapes", "product"),
    [
        ("i,j->ij", ((3,), (4,)), False),
        ("bi,bj->bij", ((2, 3), (2, 4)), False),
        ("bti,btj->bij", ((2, 1, 3), (2, 1, 4)), False),
        ("bti,btj->bij", ((2, 5, 3), (2, 5, 4)), True),
        ("ij,jk->ik", ((3, 4), (4, 5)), True),
    ],
)
def test_a_product_that_sums_over_nothing_is_a_multiplication(subscripts, shapes, product):
    graph = cg.trace(lambda a, b: jnp.einsum(subscripts, a, b), *map(jnp.ones, shapes))
    (op,) = [op for op in graph.operations if op.name == "dot_general"]
    assert (is_product(op), is_heavy(op), is_materialised(op)) == (product,) * 3


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
    assert graph.inputs[0] in materialised([op], (), described("cpu"))


@pytest.fixture
def own(request):
    """A primitive of a user's, new to each test."""
    primitive = Primitive(f"own_of_{request.node.name}")
    primitive.def_impl(lambda x: 2 * x)
    primitive.def_abstract_eval(lambda x: x)
    mlir.register_lowering(primitive, mlir.lower_fun(lambda x: 2 * x, multiple_results=False))
    return primitive


STATING = {
    "bprop_rule": lambda primitive, kind: cg.bprop_rule(primitive, cost=kind)(lambda op, g: (2 * g,)),
    "use_implementation": lambda primitive, kind: cg.use_implementation(primitive, cost=kind),
    "use_jax_rule": lambda primitive, kind: cg.use_jax_rule(primitive, cost=kind),
}


@pytest.mark.parametrize("kind", [None, *CLASSES])
@pytest.mark.parametrize("way", STATING)
def test_a_rule_states_its_class(own, way, kind):
    STATING[way](own, kind)
    assert cost_class(own.name) == (kind or "elementwise")
    (op,) = cg.trace(own.bind, jnp.ones(3)).operations
    assert is_heavy(op) == (kind in ("product", "heavy", "random"))


@pytest.mark.parametrize("way", STATING)
def test_an_unknown_class_is_refused(own, way):
    with pytest.raises(cg.OptionError, match="there are product, heavy"):
        STATING[way](own, "expensive")
    assert own.name not in registered()


def test_a_class_belongs_to_the_primitive_not_to_its_rule(own):
    STATING["bprop_rule"](own, "heavy")
    unregister(own.name)
    assert cost_class(own.name) == "heavy"
    STATING["bprop_rule"](own, None)
    assert cost_class(own.name) == "heavy"
    state_class(own.name, "view")
    assert cost_class(own.name) == "view"


@pytest.mark.parametrize(("kind", "kept"), [("heavy", ["all", "products"]), ("view", ["all", "heavy"])])
def test_the_class_decides_what_a_stage_may_repeat(own, kind, kept):
    """The option "heavy" keeps no result of the stage unless the primitive is heavy: then only "products" repeats it."""
    STATING["bprop_rule"](own, kind)
    stage = cg.stage(lambda x: jnp.exp(own.bind(x * 3)) * x)
    costs = cg.plan(lambda x: jnp.sum(stage(x)), jnp.ones(1000)).costs
    assert [option.name for option in costs.stages[0].options] == kept


def test_a_rule_may_count_its_work(own):
    cg.bprop_rule(own, flops=lambda operands, results, params: 7 * operands[0].size)(lambda op, g: (2 * g,))
    (op,) = cg.trace(own.bind, jnp.ones((3, 2))).operations
    assert flops(op) == 42


@pytest.mark.parametrize(
    ("fun", "wanted"),
    [
        (lambda x: x.reshape(6, 4), True),
        (lambda x: x[0], True),
        (lambda x: x[:, None], True),
        (lambda x: x[:, :2], False),
        (lambda x: x.transpose(0, 2, 1), False),
        (lambda x: jnp.broadcast_to(x, (5, 4, 6)), False),
        (lambda x: x[:, ::-1], False),
        (lambda x: x.astype(jnp.bfloat16), False),
    ],
)
def test_what_shows_all_numbers_in_their_order(fun, wanted):
    operations = cg.trace(fun, jnp.ones((1, 4, 6))).operations
    assert all(map(is_all_in_order, operations)) == wanted
