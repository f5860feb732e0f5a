"""Findings in words and as data."""

from __future__ import annotations

import json
import math

from ckptgrad.results.finding import CUSTOM, RULE, UNCHECKED, UNLOCATED, Finding, messages
from tests.cases.results import LINE

NUMBERS = {"input": 0, "shape": (4, 8), "dtype": "float32", "relative": 0.5, "allowed": 1e-4}
WRONG = Finding(RULE, 5, "cosh", None, LINE, ("scan",), **NUMBERS)


def test_an_operation_with_its_line_what_is_around_it_and_the_difference():
    assert WRONG.is_wrong
    assert WRONG.message == (
        "stage 5, cosh at model.py:12 (layer), in a scan: cotangent of input 0, float32[4,8], differs by 0.5 "
        "(allowed 1e-04): rule differs from JAX's"
    )


def test_a_custom_rule_is_called_by_its_function():
    found = Finding(CUSTOM, None, "custom_vjp_call", "squash", LINE, ("cond", "scan"), **NUMBERS)
    assert found.message.startswith("custom_vjp `squash` at model.py:12 (layer), in a scan, in a cond: cotangent")
    assert found.message.endswith(": custom rule is not the derivative of its function")


def test_a_difference_without_a_measure():
    infinite = Finding(RULE, 5, "cosh", input=0, shape=(), dtype="float32", relative=math.inf, allowed=1e-4)
    assert "float32[], differs where the derivative is zero, or is not finite itself" in infinite.message
    assert infinite.to_dict()["relative_difference"] is None


def test_what_could_not_be_decided_says_why():
    assert Finding(UNLOCATED, detail="no rule is wrong").message == "no rule is wrong"
    unchecked = Finding(UNCHECKED, 2, "custom_jvp_call", "f", detail="it draws random numbers")
    assert unchecked.message == "stage 2, custom_jvp `f`: it draws random numbers"
    assert not unchecked.is_wrong


def test_plain_data_is_json():
    found = json.loads(json.dumps(WRONG.to_dict()))
    assert found["source"] == "models/model.py:12 (loss.<locals>.layer)"
    assert (found["stage"], found["inside"], found["shape"], found["relative_difference"]) == (5, ["scan"], [4, 8], 0.5)
    assert found["message"] == WRONG.message


def test_what_repeats_from_stage_to_stage_is_said_once():
    found = [Finding(CUSTOM, k, "custom_jvp_call", "f", input=0, relative=0.5, allowed=1e-4) for k in range(4)]
    (text,) = messages([*found, Finding(CUSTOM, 4, "custom_jvp_call", "g", input=0, relative=0.5, allowed=1e-4)])[:1]
    assert text.startswith("stage 0, custom_jvp `f`")
    assert text.endswith("the same in 3 more stages")
