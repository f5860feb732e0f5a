"""Which primitives are differentiated, as a table."""

from __future__ import annotations

from tests.cases.results import COVERAGE


def test_counts_by_status_then_a_row_for_each():
    head, _, columns, *rows = [" ".join(line.split()) for line in str(COVERAGE).splitlines()]
    assert head == "4 primitives, 3 of them in jax.extend.core.primitives: 2 differentiated, 1 zero, 1 missing"
    assert columns == "primitive status how"
    assert rows[2:] == ["floor zero no derivative flows", "mine missing register a rule with ckptgrad.bprop_rule"]
    assert [*COVERAGE.figures()] == ["coverage"]
