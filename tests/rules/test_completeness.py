"""Every rule has a row, and every row exercises what it says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import ckptgrad.rules
from ckptgrad.graph.registry import registered
from ckptgrad.graph.trace import trace
from tests.cases import Case
from tests.cases.rules import CASES
from tests.rules.engine import arguments, cotangents, flat, our_gradient, our_vjp

# Rules of ckptgrad.rules without a row, and why.
WITHOUT_ROW = {
    "layout_constraint": "needs a device layout",
    "tie": "made by no public function",
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
    return function is None or function.__module__.startswith(ckptgrad.rules.__name__)


def test_each_rule_has_a_row():
    covered = {name for case in CASES for name in case.primitives}
    rules = {name for name, rule in registered().items() if of_this_package(rule) and not rule.is_zero}
    assert rules - covered == set(WITHOUT_ROW)


def test_zero_rules_are_listed():
    assert {name for name, rule in registered().items() if rule.is_zero} >= set(ZERO.split())


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
    return {op.name for op in trace(fun, *args).operations}
