"""A compiled step runs where its target is attached, and prints as its certificate."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import pytest

import ckptgrad as cg

X = jnp.ones(8)
STEP = cg.certify(lambda x: 2 * x, X)


def test_it_runs():
    assert float(STEP(X)[0]) == 2.0
    assert STEP.target == cg.target()


def test_it_prints_as_its_certificate():
    assert str(STEP) == repr(STEP) == str(STEP.certificate)
    assert STEP._repr_html_() == STEP.certificate._repr_html_()


def test_of_planned_gradients_it_says_how_many_programs_were_compiled():
    plan = cg.plan(lambda x: (x**2).sum(), X)
    planned = dataclasses.replace(STEP, certificate=dataclasses.replace(STEP.certificate, plans=(plan,)), rounds=3)
    assert str(planned) == f"{planned.certificate}\n3 programs were compiled"
    assert str(dataclasses.replace(planned, rounds=1)).endswith("\n1 program was compiled")


def test_it_does_not_run_where_its_target_is_not():
    elsewhere = dataclasses.replace(STEP.target, attached=False)
    step = dataclasses.replace(STEP, certificate=dataclasses.replace(STEP.certificate, target=elsewhere))
    with pytest.raises(cg.NotAttachedError):
        step(X)


def test_without_a_planned_gradient_there_is_no_plan():
    assert STEP.plans == ()
    with pytest.raises(cg.OptionError, match="0 planned calls"):
        STEP.plan  # noqa: B018
