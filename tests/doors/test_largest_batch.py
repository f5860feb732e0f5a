"""The largest batch that fits, found without running."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg

ROW = 1024  # bytes of one example


def arguments(size):
    return (jax.ShapeDtypeStruct((size, ROW // 4), jnp.float32),)


def double(x):
    return 2 * x


def test_the_next_size_does_not_fit():
    found = cg.largest_batch(arguments, double, memory=27 * ROW)
    assert found.size == 13
    assert found.certificate.peak_bytes == 26 * ROW
    assert found.is_monotone
    assert next(t.size for t in found.tried if not t.fits) == 14
    assert cg.largest_batch(arguments, double, memory=27 * ROW, donate_argnums=0).size == 27


def test_sizes_end_where_they_are_told_to():
    assert cg.largest_batch(arguments, double, memory="1GiB", start=3, most=10).size == 10


def test_a_step_that_does_not_fit_at_the_smallest_size_is_refused():
    with pytest.raises(cg.StepMemoryError, match="double"):
        cg.largest_batch(arguments, double, memory=27 * ROW, start=14)


def test_batches_that_take_fewer_bytes_are_told():
    found = cg.largest_batch(lambda n: arguments(12 if n == 2 else n), double, memory=27 * ROW, most=4)
    assert found.size == 4
    assert not found.is_monotone


@pytest.mark.parametrize("options", [{"start": 0}, {"start": 5, "most": 4}, {"memory": None}, {"memory": "min"}])
def test_what_is_no_size_and_no_memory_is_refused(options):
    with pytest.raises(cg.OptionError):
        cg.largest_batch(arguments, double, **{"memory": "1MiB", **options})
