"""Differences between gradients, on numbers small enough to check by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.validation.compare import TOLERANCES, difference, tolerance_of

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("found", "wanted", "relative"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1.0, 0.0], [0.0, 0.0], INF),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([NAN, 1.0], [1.0, 1.0], INF),
        ([INF, 1.0], [INF, 1.0], 0.0),
        ([-INF, 1.0], [INF, 1.0], INF),
        ([1.0, NAN], [1.5, NAN], 1 / 3),
        ([1.0], [1.0, 2.0], INF),
    ],
)
def test_relative(found, wanted, relative):
    apart = difference({"w": np.float32(found)}, {"w": np.float32(wanted)})
    assert apart.relative == pytest.approx(relative, rel=1e-6)
    assert (apart.excess > 1) == (relative > 0)


def test_bitwise_tells_apart_what_is_equal_but_not_the_same():
    assert difference([np.float32(0.0)], [np.float32(0.0)]).bitwise
    assert not difference([np.float32(-0.0)], [np.float32(0.0)]).bitwise


def test_worst_leaf_is_named():
    wanted = {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    apart = difference(wanted | {"b": np.float32([1.0, 1.5])}, wanted)
    assert apart.leaf == "['b']"
    assert apart.dtype == "float32"


def test_leaf_that_is_all_rounding_is_no_failure():
    eps = np.finfo(np.float32).eps
    wanted = {"key bias": np.float32([0.1 * eps]), "weight": np.float32([1.0])}
    found = {"key bias": np.float32([-0.1 * eps]), "weight": np.float32([1.0])}
    assert difference(found, wanted).excess < 1


def test_wrong_small_leaf_is_a_failure():
    wanted = {"bias": np.float32([1e-5]), "weight": np.float32([1.0])}
    assert difference(wanted | {"bias": np.float32([2e-5])}, wanted).excess > 1


def test_integer_leaves_are_skipped():
    assert difference([np.int32(1)], [np.int32(2)]).bitwise


def test_different_structures():
    assert difference({"a": np.ones(1)}, {"b": np.ones(1)}).excess == INF


@pytest.mark.parametrize("name", TOLERANCES)
def test_tolerance_is_some_rounding_units(name):
    assert jnp.finfo(name).eps < tolerance_of(jnp.dtype(name)) < 0.1


def test_complex_has_the_tolerance_of_its_parts():
    assert tolerance_of(np.dtype("complex64")) == TOLERANCES["float32"]
