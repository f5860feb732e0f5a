"""A validation as a table."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.report import registry
from ckptgrad.results.finding import CUSTOM, Finding
from ckptgrad.results.validation import Difference
from tests.cases.results import KIB, VALIDATION


def lines(validation):
    return [" ".join(line.split()) for line in str(validation).splitlines()]


def test_rows():
    head, _, columns, grad, optimal, sqrt, *_ = lines(VALIDATION)
    assert head.startswith("loss: peak bytes beyond the arguments, budget 24.0 KiB")
    assert head.endswith("median of 3 rounds")
    assert columns == "predicted certified temporaries resident time gradient differs by"
    assert grad == "jax.grad - 40.0 KiB 30.0 KiB - 1.00 0 (bit for bit)"
    assert optimal == "optimal 18.0 KiB 20.0 KiB 10.0 KiB n/a 1.20 2.0e-06"
    assert sqrt.endswith("cannot meet the budget, needs 33.0 KiB")


def test_notes():
    notes = lines(replace(VALIDATION, borrowed=("mine",)))[-3:]
    assert notes[0] == "passed: gradients agree with jax.grad's, certified peaks are within the budget"
    assert notes[1] == "borrowed from JAX, so not checked independently: mine"
    assert notes[2] == "resident n/a (optimal): it was not asked for"


def test_what_is_wrong_is_said_in_place_of_the_agreement():
    first, optimal, _ = VALIDATION.rows
    wrong = replace(optimal, gradient=Difference(0.5, 40.0, "[0]", "float32", False))
    notes = lines(replace(VALIDATION, rows=(first, wrong), budget=19 * KIB))
    assert any(line.startswith("FAILED: optimal: the gradient[0] (float32) differs") for line in notes)
    assert f"FAILED: optimal: the certified peak of {20 * KIB} bytes is above the budget of {19 * KIB} bytes" in notes
    assert not any("agree" in line for line in notes)


def test_a_wrong_custom_rule_fails_though_gradients_agree():
    finding = Finding(CUSTOM, 1, "custom_vjp_call", "mine", input=0, shape=(3,), dtype="float32", relative=0.5, allowed=1e-4)
    found = lines(replace(VALIDATION, findings=(finding,), checked=1))
    text = " ".join(found)
    assert found[0].startswith("FAILED")
    assert "FAILED: gradients agree" in text
    assert "custom rules that both use are wrong" in text
    assert "wrong: stage 1, custom_vjp `mine`" in text


def test_what_was_only_compiled_has_no_times():
    head, _, columns, *rest = lines(replace(VALIDATION, repeats=0, target="H100"))
    assert "compiled for H100, which is not attached, and not run" in head
    assert columns == "predicted certified temporaries resident"
    assert any(line.startswith("certified: peaks are within the budget; nothing was run") for line in rest)


def test_arguments_are_beside_what_the_call_adds():
    found = " ".join(str(replace(VALIDATION, arguments={"params": 3 * KIB, "x": KIB})).split())
    assert "held beside them: params 3.0 KiB, x 1.0 KiB; 44.0 KiB with the peak of the largest" in found
    assert "held beside them" not in str(VALIDATION)


def test_what_is_not_wrong_has_advice_on_its_plan():
    advised = replace(VALIDATION, advise=lambda: ("a sentence",))
    assert registry.advice(advised)() == ("a sentence",)
    assert registry.advice(replace(advised, budget=KIB)) is None
