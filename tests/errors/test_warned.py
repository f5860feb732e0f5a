"""Warnings say what happens, where, and how they are silenced."""

from __future__ import annotations

import pickle

import pytest

from ckptgrad.errors import CheckpointWarning, ShardingWarning


def test_a_checkpoint_that_is_taken_apart_is_named_with_its_line_and_what_takes_its_policy():
    warning = CheckpointWarning("loss (model.py:3)", "model.py:5", policy=True)
    assert str(warning).startswith("the jax.checkpoint at model.py:5 inside loss (model.py:3) is taken apart: ")
    assert "its policy can be given as saveable=" in str(warning)
    assert "saveable" not in str(CheckpointWarning("loss"))
    assert "category=ckptgrad.CheckpointWarning" in str(warning)


def test_what_is_not_known_of_shardings_is_said_with_what_says_it():
    said = str(ShardingWarning("loss (model.py:3)", 8))
    assert "for one device; while loss (model.py:3) is traced" in said
    assert "on the 8 devices that there are, and they are taken to lie on one: pass shardings=" in said


@pytest.mark.parametrize(
    "warning", [CheckpointWarning("loss (model.py:3)", "model.py:5", policy=True), ShardingWarning("loss (model.py:3)", 8)]
)
def test_a_copy_says_the_same(warning):
    assert str(type(warning)(*warning.args)) == str(pickle.loads(pickle.dumps(warning))) == str(warning)
