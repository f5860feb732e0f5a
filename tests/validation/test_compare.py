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


@pytest.mark.parametrize(("found", "wanted"), [("float16", "bfloat16"), ("float32", "float16"), ("complex64", "float64")])
def test_equal_bytes_or_numbers_of_another_type_are_not_the_same(found, wanted):
    apart = difference([jnp.zeros(2, found)], [np.zeros(2, jnp.dtype(wanted))])
    assert apart.relative == 0
    assert not apart.bitwise


def test_bits_are_those_of_all_leaves():
    wanted = {"a": np.float32([1.0]), "b": np.float32([0.0]), "c": np.float32([1.0])}
    assert difference(wanted, wanted).bitwise
    for leaf in wanted:
        assert not difference(wanted | {leaf: -wanted[leaf] if leaf == "b" else wanted[leaf] + 1}, wanted).bitwise


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_excess_of_a_leaf_is_measured_by_its_own_type(order):
    """Half precision may be farther off than double."""
    wanted = {"a": np.ones(2, np.float16), "b": np.ones(2, np.float64)}
    off = {"a": np.float16([1, 1.005]), "b": np.float64([1, 1.001])}
    apart = difference({k: off[k] for k in order}, {k: wanted[k] for k in order})
    assert (apart.leaf, apart.dtype) == ("['b']", "float64")
    assert apart.relative == pytest.approx(0.005, rel=0.1)
    assert apart.excess == pytest.approx(0.001 / 1e-10)


def test_a_tolerance_given_holds_for_all_types():
    apart = difference([np.float16([1, 1.25])], [np.ones(2, np.float16)], tolerance=0.5)
    assert apart.excess == pytest.approx(0.5)
    assert difference([np.float32([1, 2])], [np.ones(2, np.float32)], tolerance=0.0).excess == INF
    assert difference([np.ones(2, np.float32)], [np.ones(2, np.float32)], tolerance=0.0).excess == 0


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
