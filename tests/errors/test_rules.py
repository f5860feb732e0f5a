"""Errors of differentiation name the primitive, the line and a way out."""

from __future__ import annotations

from ckptgrad.errors import DuplicateRuleError, ForwardModeError, InexactDerivativeError, MissingRuleError, NoDerivativeError


def test_a_missing_rule_says_how_to_give_one():
    error = MissingRuleError("fancy", "model.py:3", ["ckptgrad.use_jax_rule('fancy'), which borrows JAX's"])
    assert "'fancy' at model.py:3. Register one:\n    @ckptgrad.bprop_rule('fancy')" in str(error)
    assert str(error).endswith("\nOr call ckptgrad.use_jax_rule('fancy'), which borrows JAX's.")


def test_no_derivative_says_why():
    error = NoDerivativeError("floor", "it is constant between jumps", "model.py:3")
    assert str(error).startswith("the primitive 'floor' at model.py:3 has no derivative: it is constant between jumps. ")
    assert isinstance(ForwardModeError("custom_vjp_call"), NoDerivativeError)


def test_an_inexact_gradient_has_no_derivative_and_says_what_to_leave_out():
    error = InexactDerivativeError()
    assert isinstance(error, NoDerivativeError)
    assert "leave int8 and float8 out" in str(error)


def test_a_second_rule_says_how_to_replace_the_first():
    assert "unregister('sin')" in str(DuplicateRuleError("sin"))
