"""Every rule has a row, and every row exercises what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import ckptgrad.rules
from ckptgrad import compat
from ckptgrad.autodiff.rule import registered
from ckptgrad.graph.trace import trace
from ckptgrad.graph.work import inner_programs
from ckptgrad.rules.coverage import MISSING, coverage, public_primitives
from tests.cases import Case
from tests.cases.elementwise import NEWER
from tests.cases.rules import CASES
from tests.support.engine import arguments, cotangents, flat, our_gradient, our_vjp

ROOT = Path(__file__).parents[2]
# Rules of ckptgrad.rules without a row, and why, or the tests that they have instead.
WITHOUT_ROW = {
    "layout_constraint": "needs a device layout",
    "tie": "made by no public function",
    **dict.fromkeys(["maybe_set", "select_if_vmap"], "tests/end_to_end/test_solvers.py"),
    **dict.fromkeys(["nonbatchable", "nondifferentiable_backward"], "tests/rules/test_third_party.py"),
    "reshard": "tests/rules/test_collectives.py",
    "linear_call": "tests/rules/test_custom.py",
    "call_hi_primitive": "tests/end_to_end/test_opt_in_flags.py",
    "planned_linear": "tests/doors/test_loops.py",
    "cond": "tests/rules/test_branches.py",
    **dict.fromkeys(["scan", "while"], "tests/end_to_end/test_control_flow.py"),
    **dict.fromkeys(["custom_jvp_call", "custom_vjp_call"], "tests/rules/test_custom.py"),
    "custom_vmap_call": "tests/rules/test_custom_batching.py",
    **dict.fromkeys(
        ["psum", "psum_invariant", "pvary", "ppermute", "all_gather", "all_gather_invariant", "reduce_scatter"]
        + ["all_to_all", "pbroadcast", "shard_map"],
        "tests/rules/test_collectives.py",
    ),
    **dict.fromkeys(
        ["preduced", "unreduced_psum", "all_gather_reduced", "unreduced_reduce_scatter"]
        + [*compat.VARY_UNREDUCED_CAST, *compat.REDUCED_VARY_CAST],
        "tests/rules/test_sharded.py",
    ),
}


# Primitives through which no derivative flows.
ZERO = """
    eq ne ge gt le lt eq_to le_to lt_to is_finite and or xor not reduce_and reduce_or reduce_xor
    shift_left shift_right_arithmetic shift_right_logical population_count clz mulhi argmax argmin
    bitcast_convert_type sign floor ceil round iota empty empty2 create_token after_all axis_index
    stop_gradient random_bits random_seed random_split random_fold_in random_wrap random_unwrap
    random_clone iota_2x32_shape threefry2x32 threefry4x32 philox2x32 philox4x32 rng_bit_generator
    rng_uniform
"""


def of_this_package(rule) -> bool:
    """Other packages register rules as well."""
    function = rule.bprop or rule.pullback
    return function is None or function.__module__.startswith(f"{ckptgrad.__name__}.")


def test_each_rule_has_a_row():
    covered = {name for case in [*CASES, *NEWER] for name in case.primitives}
    found = registered().items()
    rules = {name for name, rule in found if of_this_package(rule) and rule.kind not in ("zero", "refused", "inlined")}
    assert rules - covered == set(WITHOUT_ROW)


def test_the_tests_that_stand_for_a_row_are_there():
    files = {reason for reason in WITHOUT_ROW.values() if reason.endswith(".py")}
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []


def test_zero_rules_are_listed():
    assert {name for name, rule in registered().items() if rule.is_zero} >= set(ZERO.split())


def test_every_primitive_that_jax_publishes_is_in_the_table():
    """Differentiated, without derivative, or refused: a new JAX that brings another one fails here."""
    assert [row.primitive for row in coverage() if row.status == MISSING] == []
    assert {row.primitive for row in coverage() if row.public} == set(public_primitives())


def test_no_name_twice():
    assert [n for n, times in Counter(c.name for c in CASES).items() if times > 1] == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_row_reaches_its_primitives(case: Case):
    """In the function, in its gradient, or in the gradient of that."""
    args = arguments(case, np.float32)
    given = (*args, *cotangents(case, args))

    def gradient(*xs):
        return our_gradient(case)(xs[: len(args)], xs[len(args) :])

    def gradient_of_gradient(*xs):
        outputs, pull = our_vjp(gradient, *xs)
        return pull(*outputs)

    missing = set(case.primitives) - names(flat(case), args)
    if missing:
        missing -= names(gradient, given)
    if missing:
        missing -= names(gradient_of_gradient, given)
    assert not missing


def names(fun, args) -> set[str]:
    """The primitives of a function and of the programs inside it."""
    operations = trace(fun, *args).operations
    found, programs = {op.name for op in operations}, [j for op in operations for j in inner_programs(op.params)]
    while programs:
        program = programs.pop()
        found.update(eqn.primitive.name for eqn in program.eqns)
        programs += [j for eqn in program.eqns for j in inner_programs(eqn.params)]
    return found
