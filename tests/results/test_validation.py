"""The rows of a validation, and what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ckptgrad.meters.meter import Reading
from ckptgrad.results.finding import CUSTOM, UNLOCATED, Finding
from ckptgrad.results.validation import MOST_LINES, Difference
from tests.cases.results import KIB, VALIDATION


def test_rows_are_found_by_name():
    optimal = VALIDATION["optimal"]
    assert optimal.certified == Reading(20 * KIB)
    assert optimal.resident.bytes is None
    assert VALIDATION["jax.grad"].resident is None
    assert [row.feasible for row in VALIDATION.rows] == [True, True, False]
    with pytest.raises(StopIteration):
        VALIDATION["rotor"]


def test_differences_within_what_is_allowed_pass():
    assert VALIDATION.passed
    assert VALIDATION.failures == []


def with_row(**changes):
    return replace(VALIDATION, rows=(VALIDATION.rows[0], replace(VALIDATION["optimal"], **changes)))


def test_a_gradient_or_a_value_that_differs_fails():
    for name in ("gradient", "value"):
        (text,) = with_row(**{name: Difference(0.25, 1.5, "['w']", "float32", False)}).failures
        assert text == (
            f"optimal: the {name}['w'] (float32) differs from jax.grad's by 0.25 relative, 1.5 times what is allowed"
        )
        assert with_row(**{name: Difference(0.25, 1.0, "['w']", "float32", False)}).passed


def test_a_budget_binds_policies_and_not_references():
    assert replace(VALIDATION, budget=20 * KIB).passed
    (text,) = replace(VALIDATION, budget=20 * KIB - 1).failures
    assert text == f"optimal: the certified peak of {20 * KIB} bytes is above the budget of {20 * KIB - 1} bytes"


def found(kind, stage, function="f"):
    numbers = {"input": 0, "shape": (), "dtype": "float32", "relative": 1.0, "allowed": 1e-4}
    return Finding(kind, stage, "custom_vjp_call", function, **numbers)


def test_a_wrong_finding_fails_and_one_that_could_not_be_placed_does_not():
    assert not replace(VALIDATION, findings=(found(CUSTOM, 1),)).passed
    assert replace(VALIDATION, findings=(Finding(UNLOCATED, detail="no rule is wrong"),)).passed


def test_what_was_located_is_said_with_what_is_wrong_first():
    wrong = tuple(found(CUSTOM, 0, f"f{k}") for k in range(MOST_LINES + 3))
    lines = replace(VALIDATION, findings=(Finding(UNLOCATED, detail="no rule is wrong"), *wrong)).located
    assert len(lines) == MOST_LINES + 2
    assert all(line.startswith("wrong: ") for line in lines[:-1])
    assert lines[-2:] == ["wrong: 3 more, in `findings`", "located: no rule is wrong"]
    (nothing,) = replace(VALIDATION, checked=4).located
    assert nothing == "located: nothing; 4 calls of functions with custom rules were checked"
    assert VALIDATION.located == []


def test_plain_data_is_json():
    data = json.loads(json.dumps(VALIDATION.to_dict()))
    assert (data["passed"], data["failures"], data["budget_bytes"]) == (True, [], 24 * KIB)
    optimal = data["rows"][1]
    assert optimal["readings"] == {
        "xla": {"bytes": 20 * KIB, "reason": None},
        "resident": {"bytes": None, "reason": "it was not asked for"},
    }
    assert optimal["gradient"]["leaf"] == "[0]"
    assert data["rows"][2]["smallest_peak_bytes"] == 33 * KIB
