"""Microbatches in words."""

from ckptgrad.results.microbatches import Microbatches


def test_they_name_the_axis_that_is_cut():
    assert str(Microbatches(8, 16, 0, "batch['x']")) == "8 of 16 along axis 0 of batch['x']"
