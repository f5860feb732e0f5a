"""The host's memory as a tier."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.errors import TierError
from ckptgrad.execution.tiers.host import HostStore

DEVICE = jax.devices("cpu")[0]


def test_what_was_sent_comes_back_as_a_buffer_of_its_own():
    store, value = HostStore("", 100, DEVICE), jnp.arange(5.0)
    store.put(1, value)
    back, again = store.get(1, value), store.get(1, value)
    assert (back == value).all()
    assert len({x.unsafe_buffer_pointer() for x in (value, back, again)}) == 3
    store.drop(1)
    store.drop(1)
    store.close()


def test_no_more_is_kept_than_it_may_hold():
    store = HostStore("", 30, DEVICE)
    store.put(1, jnp.ones(5))
    with pytest.raises(TierError, match="holds 20 of 30 bytes, and 20 more"):
        store.put(2, jnp.ones(5))
    store.drop(1)
    store.put(2, jnp.ones(5))
