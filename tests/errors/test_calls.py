"""Errors about a call: the option or the argument, and what is accepted."""

from __future__ import annotations

from ckptgrad.errors import BudgetFormatError, ReferenceTypeError, StateError, StaticArgumentError


def test_a_budget_that_cannot_be_read_is_shown_beside_what_can():
    error = BudgetFormatError("a lot", "expected a number followed by a unit")
    assert error.budget == "a lot"
    assert str(error).startswith("cannot read the budget 'a lot': expected a number followed by a unit. ")
    assert '"512MiB"' in str(error)


def test_changes_in_place_are_named_up_to_a_few():
    error = StateError("loss", "Module", ["a", "b", "c", "d", "e"], nnx=True)
    assert error.changed == ("a", "b", "c", "d", "e")
    assert "in place: a, b, c, d and 1 more" in str(error)
    assert "ckptgrad.nnx.value_and_grad" in str(error)


def test_a_static_argument_tells_another_value_from_a_changed_one():
    table = {"a": 1}
    assert "is called with 4" in str(StaticArgumentError("loss", "n", 3, 4))
    assert "was changed in place since" in str(StaticArgumentError("loss", "n", table, table))


def test_a_reference_names_its_line():
    assert "used at model.py:3," in str(ReferenceTypeError("model.py:3"))
