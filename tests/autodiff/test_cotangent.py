"""Entries of a rule, and their sum: parts of an array wait for a whole, and are added in place."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.autodiff.cotangent import Part, accumulate, computed, force, whole

WHOLE = jnp.array([10.0, 20.0, 30.0])


def part(at, value, made=None):
    """A cotangent that is `value` at one position; `made` counts the arrays of zeros that are made."""

    def zeros():
        if made is not None:
            made.append(at)
        return jnp.zeros(3)

    return Part(zeros, lambda total: total.at[at].add(value))


ENTRIES = {
    "zero": (None, None),
    "an array": (WHOLE, [10, 20, 30]),
    "computed when it is needed": (lambda: WHOLE, [10, 20, 30]),
    "computed to be zero": (lambda: None, None),
    "a part": (part(1, 5.0), [0, 5, 0]),
    "a part that is computed": (lambda: part(2, 7.0), [0, 0, 7]),
}


@pytest.mark.parametrize(("entry", "expected"), ENTRIES.values(), ids=ENTRIES)
def test_an_entry_as_an_array(entry, expected):
    array = force(entry)
    assert (array is None) == (expected is None)
    if expected is not None:
        np.testing.assert_array_equal(array, expected)


def test_a_part_stays_one_until_it_is_forced():
    assert isinstance(computed(lambda: part(0, 1.0)), Part)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_parts_are_added_to_a_whole_and_make_no_zeros(order):
    made = []
    contributions = [part(0, 1.0, made), part(0, 2.0, made), WHOLE]
    table = {}
    for k in order:
        accumulate(table, "v", contributions[k])
    np.testing.assert_array_equal(whole(table["v"]), [13, 20, 30])
    assert made == []


def test_parts_alone_share_one_array_of_zeros():
    made, table = [], {}
    for at in (0, 1, 1):
        accumulate(table, "v", part(at, 4.0, made))
    np.testing.assert_array_equal(whole(table["v"]), [4, 8, 0])
    assert len(made) == 1


def test_where_nothing_flowed_there_is_no_gradient():
    assert whole(None) is None
