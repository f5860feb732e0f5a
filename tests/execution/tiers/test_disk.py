"""A folder as a tier: what was sent comes back in all bits, or an error says which file and what to do; nothing is left."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.errors import TierError
from ckptgrad.execution.tiers import disk
from ckptgrad.execution.tiers.disk import DiskStore, reclaim
from tests.cases.tanh import tanh_arguments, tanh_loss
from tests.support.compare import assert_same

DEVICE = jax.devices("cpu")[0]
WS, X = tanh_arguments(16, 4096, layers=8)
N = X.nbytes


@pytest.fixture
def store(tmp_path):
    store = DiskStore(str(tmp_path), 1 << 30, DEVICE)
    yield store
    store.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [jnp.arange(7.0), jnp.ones((3, 5), jnp.bfloat16), jnp.array(True), jnp.zeros((0, 2))])
def test_what_was_sent_comes_back(store, value):
    store.put(1, value)
    assert_same(store.get(1, value), value, bits=True)
    store.drop(1)
    store.drop(1)
    assert os.listdir(store.folder) == []


def test_a_damaged_file_is_named(store):
    store.put(3, jnp.arange(1000.0))
    with open(store.path(3), "r+b") as file:
        file.seek(100)
        file.write(b"\x55")
    with pytest.raises(TierError, match=r"3\.bin is damaged.*run the gradient again"):
        store.get(3, jnp.arange(1000.0))


def test_a_file_that_was_cut_off_is_named(store):
    store.put(3, jnp.arange(1000.0))
    os.truncate(store.path(3), 17)
    with pytest.raises(TierError, match=r"3\.bin is damaged"):
        store.get(3, jnp.arange(1000.0))


def test_a_removed_file_is_named(store):
    store.put(4, jnp.ones(3))
    store.path(4).unlink()
    with pytest.raises(TierError, match=r"cannot read .*4\.bin.*folder of its own"):
        store.get(4, jnp.ones(3))


def test_a_full_disk_says_what_to_do(store, monkeypatch):
    def full(path, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(disk, "open", full, raising=False)
    with pytest.raises(TierError, match=r"cannot write 12 bytes to .*5\.bin: No space left.*make room"):
        store.put(5, jnp.ones(3))


def test_no_more_is_kept_than_it_may_hold(tmp_path):
    store = DiskStore(str(tmp_path), 20, DEVICE)
    store.put(1, jnp.ones(3))
    with pytest.raises(TierError, match="holds 12 of 20 bytes; 12 more"):
        store.put(2, jnp.ones(3))
    store.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "nothing/there"):
        with pytest.raises(TierError, match="cannot be used"):
            DiskStore(str(tmp_path / place), 1, DEVICE)


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, monkeypatch):
    def refused(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(disk.os, "open", refused)
    with pytest.raises(TierError, match=rf"{tmp_path} of the tier disk cannot be used: Permission denied"):
        DiskStore(str(tmp_path), 1, DEVICE)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_goes_while_a_gradient_runs_is_named(store):
    store.put(1, jnp.ones(3))
    shutil.rmtree(store.folder)
    with pytest.raises(TierError, match=r"cannot read .*1\.bin.*removed it"):
        store.get(1, jnp.ones(3))
    with pytest.raises(TierError, match=r"cannot write .*2\.bin.*can be written to"):
        store.put(2, jnp.ones(3))
    store.drop(1)


def test_stores_share_a_folder_and_leave_each_other_alone(tmp_path):
    first, second = (DiskStore(str(tmp_path), 1 << 20, DEVICE) for _ in range(2))
    first.put(1, jnp.ones(3))
    second.put(1, jnp.zeros(3))
    assert reclaim(tmp_path) == []
    first.close()
    assert (second.get(1, jnp.ones(3)) == 0).all()
    second.close()
    assert os.listdir(tmp_path) == []


LEAVES = """
import os, sys, time, types
from ckptgrad.execution.tiers.disk import DiskStore
import numpy as np
store = DiskStore(sys.argv[1], 1 << 20, None)
store.put(1, np.ones(3))
print("kept", flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", LEAVES, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"kept\n"
    assert len(os.listdir(tmp_path)) == 2
    assert reclaim(tmp_path) == []
    own = DiskStore(str(tmp_path), 1 << 20, DEVICE)
    own.put(1, jnp.zeros(3))
    assert len(os.listdir(tmp_path)) == 4
    own.close()
    assert len(os.listdir(tmp_path)) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    DiskStore(str(tmp_path), 1, DEVICE).close()
    assert os.listdir(tmp_path) == []


def tiered(folder, **options):
    return cg.value_and_grad(tanh_loss, budget=7 * N, runtime="staged", tiers=[f"disk:{folder}:1GiB"], **options)


def sends(folder):
    """A gradient of which boundaries are sent, whatever the folder's speed: by a schedule that says so."""
    schedule = []
    for i in range(8):
        schedule += [f"F{i}:1"] + ([f">{i}"] if i else [])
    back = [f for i in reversed(range(8)) for f in ([f"<{i}"] if i else []) + [f"B{i}", f"-{i}"]]
    plan = cg.plan(tanh_loss, WS, X)
    count = len(plan.program.stages)
    texts = [t.replace(":1", "") for t in schedule] if count != 8 else schedule
    policy = cg.Schedule.parse([*texts, *back], "sent")
    return cg.value_and_grad(tanh_loss, policy=policy, runtime="staged", tiers=[f"disk:{folder}:1GiB"]).compile(WS, X)


def test_a_gradient_that_sends_is_equal_bit_for_bit_and_leaves_nothing(tmp_path):
    gradient = sends(tmp_path)
    assert_same(gradient(WS, X), cg.value_and_grad(tanh_loss, policy="recompute_all").compile(WS, X)(WS, X), bits=True)
    assert os.listdir(tmp_path) == []


def test_a_slow_folder_makes_a_gradient_slow_and_no_other(tmp_path, monkeypatch):
    gradient = sends(tmp_path)
    expected, get = gradient(WS, X), DiskStore.get

    def slow(self, key, like):
        time.sleep(0.05)
        return get(self, key, like)

    monkeypatch.setattr(DiskStore, "get", slow)
    assert_same(gradient(WS, X), expected, bits=True)


@pytest.mark.parametrize("fault", ["damaged", "removed", "full", "interrupted"])
def test_a_fault_in_the_middle_is_an_error_and_leaves_nothing(tmp_path, monkeypatch, fault):
    gradient, put = sends(tmp_path), DiskStore.put

    def faulty(self, key, value):
        if fault == "full":
            raise TierError("the disk is full")
        put(self, key, value)
        if fault == "removed":
            self.path(key).unlink()
        elif fault == "damaged":
            self.path(key).write_bytes(b"\0" * value.nbytes)
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(DiskStore, "put", faulty)
    said = {"damaged": r"\.bin is damaged", "removed": r"cannot read .*\.bin", "full": "the disk is full"}
    with pytest.raises(KeyboardInterrupt if fault == "interrupted" else TierError, match=said.get(fault)):
        gradient(WS, X)
    assert os.listdir(tmp_path) == []


def test_within_a_budget_more_is_sent_or_run_again_and_the_budget_is_kept(tmp_path):
    certified = tiered(tmp_path).compile(WS, X)
    assert certified.peak_bytes <= 7 * N
    assert_same(certified(WS, X), jax.value_and_grad(tanh_loss)(WS, X), scale=10)
    assert os.listdir(tmp_path) == []
