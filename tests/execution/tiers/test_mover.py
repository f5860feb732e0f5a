"""Transfers beside computation: in order where they must be, errors where they are waited for."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.errors import TierError
from ckptgrad.execution.tiers.host import HostStore
from ckptgrad.execution.tiers.mover import Mover
from ckptgrad.execution.tiers.seen import seen
from ckptgrad.execution.tiers.tier import read_tier

DEVICE = jax.devices("cpu")[0]
TIERS = [read_tier("host:1MiB")]


def test_a_value_is_fetched_once_it_has_arrived(monkeypatch):
    go, put = threading.Event(), HostStore.put
    monkeypatch.setattr(HostStore, "put", lambda self, key, value: (go.wait(10), put(self, key, value)))
    with Mover(TIERS, DEVICE) as mover:
        sent, fetched = mover.put(0, 1, jnp.ones(3)), mover.get(0, 1, jnp.ones(3))
        assert not sent.is_ready()
        assert not fetched.is_ready()
        go.set()
        assert (fetched.block_until_ready() == 1).all()
        mover.drop(0, 1)


def test_an_error_is_raised_where_the_transfer_is_waited_for():
    with Mover([read_tier("host:1B")], DEVICE) as mover:
        sent, fetched = mover.put(0, 1, jnp.ones(3)), mover.get(0, 1, jnp.ones(3))
        for moving in (sent, fetched):
            with pytest.raises(TierError, match="do not fit"):
                moving.block_until_ready()


def test_what_cannot_be_opened_closes_the_others(tmp_path):
    with pytest.raises(TierError):
        Mover([read_tier(f"disk:{tmp_path}:1MiB"), read_tier(f"disk:{tmp_path}/none:1MiB")], DEVICE)
    assert list(tmp_path.iterdir()) == []


def test_each_transfer_and_what_runs_beside_it_is_seen():
    tier = read_tier("host:3MiB")
    found = seen(tier, DEVICE)
    before, value = len(found.put), jnp.ones(1000)
    with Mover([tier], DEVICE) as mover:
        mover.put(0, 1, value)
        for _ in range(2):
            mover.get(0, 1, value).block_until_ready()
        mover.computes("program", value, 0.0)
        mover.drop(0, 1)
    assert len(found.put) == before + 1
    assert {size for size, seconds in [*found.put, *found.get] if seconds > 0} >= {value.nbytes}
