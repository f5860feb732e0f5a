"""Predicates that are written as text are those of JAX."""

from __future__ import annotations

import jax
import pytest
from jax.ad_checkpoint import checkpoint_name

import ckptgrad as cg
from ckptgrad.stage.written_saveable import BY_OPERATION, check_saveable, choices, read_saveable


@pytest.mark.parametrize("name", BY_OPERATION)
def test_by_operation(name):
    assert read_saveable(name) is getattr(jax.checkpoint_policies, name)


def test_by_mark():
    (named,) = jax.make_jaxpr(lambda x: checkpoint_name(x, "kept"))(1.0).eqns
    keeps = [read_saveable(f"save_only_these_names:{marks}") for marks in ("kept", "other, kept", "other")]
    assert [bool(keep(named.primitive, **named.params)) for keep in keeps] == [True, True, False]


@pytest.mark.parametrize("text", ["magic", "dots_saveable:a", "save_only_these_names", "save_only_these_names:,", ""])
def test_what_cannot_be_read(text):
    with pytest.raises(cg.OptionError, match="Write one of everything_saveable"):
        read_saveable(text)


def test_every_choice_is_a_name_of_jax():
    assert all(hasattr(jax.checkpoint_policies, choice.partition(":")[0]) for choice in choices())


def test_a_near_miss_is_told():
    with pytest.raises(cg.OptionError, match="did you mean 'dots_saveable'"):
        read_saveable("dots")


def test_what_a_door_is_given():
    keep = jax.checkpoint_policies.dots_saveable
    assert check_saveable(keep) is check_saveable("dots_saveable") is keep
    assert check_saveable(None) is None
    with pytest.raises(cg.OptionError, match="of type int"):
        check_saveable(3)
