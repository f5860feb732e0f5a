"""Every rule has a row, and every row exercises what it says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import ckptgrad.rules
from ckptgrad.graph.registry import registered
from ckptgrad.graph.trace import trace
from ckptgrad.rules import kinds
from tests.cases.rules import CASES, Case
from tests.rules.engine import arguments, cotangents, flat, our_gradient

# Rules of ckptgrad.rules without a row, and why.
WITHOUT_ROW = {
    "layout_constraint": "needs a device layout",
    "tie": "made by no public function",
}


def rules_of_this_package():
    """Other packages register rules as well; those of `ckptgrad.rules` are recognised by module."""
    for name, rule in registered().items():
        if rule.kind in ("elementwise", "zero") or rule.bprop.__module__.startswith(ckptgrad.rules.__name__):
            yield name, rule


def test_each_rule_has_a_row():
    covered = {name for case in CASES for name in case.primitives}
    missing = {name for name, rule in rules_of_this_package() if not rule.is_zero} - covered
    assert missing == set(WITHOUT_ROW)


def test_no_name_twice():
    assert [n for n, times in Counter(c.name for c in CASES).items() if times > 1] == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_row_reaches_its_primitives(case: Case):
    args = arguments(case, np.float32)
    cts = cotangents(case, args)
    found = names(trace(flat(case), *args))
    if not found.issuperset(case.primitives):
        gradient = our_gradient(case)
        found |= names(trace(gradient, args, cts))
    if not found.issuperset(case.primitives):
        again = lambda args, cts: trace_gradient(case, args, cts)  # noqa: E731
        found |= names(trace(again, args, cts))
    assert set(case.primitives) <= found


def trace_gradient(case, args, cts):
    from tests.rules.engine import our_vjp

    n = len(args)
    outer, pull = our_vjp(lambda *xs: our_gradient(case)(xs[:n], xs[n:]), *args, *cts)
    return pull(*outer)


def names(graph) -> set[str]:
    return {op.name for op in graph.operations}


def test_zero_rules_hold_no_function():
    zeros = [rule for _, rule in rules_of_this_package() if rule.is_zero]
    assert zeros
    assert {rule.kind for rule in zeros} == {"zero"}
    assert callable(kinds.zero)
