"""A failed validation carries its table."""

from __future__ import annotations

from ckptgrad.errors import ValidationError


def test_it_carries_the_table_and_is_an_assertion():
    table = object()
    error = ValidationError("the gradient differs", table)
    assert error.validation is table
    assert isinstance(error, AssertionError)
