"""The state of a training on disk: whole or not there, and of one job."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ckptgrad.errors import OptionError
from ckptgrad.training import saved
from ckptgrad.training.saved import Saved, load, save

JOB = {"depth": 2, "text": "abc", "learning rate": 0.1}
LEAVES = [np.arange(6.0).reshape(2, 3), np.array(7, np.int32)]
STATE = Saved(JOB, [1.5, 0.1], LEAVES)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "state.npz"


def test_what_is_saved_is_loaded(path):
    assert load(path, JOB, LEAVES) is None
    save(path, STATE)
    found = load(path, JOB, LEAVES)
    assert (found.job, found.losses, found.digest) == (JOB, [1.5, 0.1], STATE.digest)
    for a, b in zip(found.leaves, LEAVES, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_states_are_told_apart():
    others = Saved({**JOB, "depth": 3}, [1.5, 0.1], LEAVES), Saved(JOB, [1.5], LEAVES), Saved(JOB, [1.5, 0.1], LEAVES[::-1])
    assert len({STATE.digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize("at", ["savez", "fsync", "replace"])
def test_who_is_killed_while_writing_leaves_the_old_file(path, monkeypatch, at):
    save(path, STATE)

    def killed(file, *args, **kwargs):
        if at == "savez":
            file.write(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(np if at == "savez" else saved.os, at, killed)
    with pytest.raises(KeyboardInterrupt):
        save(path, Saved(JOB, [1.5, 0.1, 0.05], LEAVES))
    monkeypatch.undo()
    assert load(path, JOB, LEAVES).digest == STATE.digest
    save(path, Saved(JOB, [0.0], LEAVES))
    assert load(path, JOB, LEAVES).losses == [0.0]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("job", "leaves", "said"),
    [
        ({**JOB, "depth": 3}, LEAVES, r"another training \(depth differ"),
        ({**JOB, "width": 3}, LEAVES, r"another training \(width differ"),
        (JOB, [LEAVES[0].astype(np.float32), LEAVES[1]], "another training"),
        (JOB, [*LEAVES, LEAVES[0]], "does not hold the state"),
    ],
)
def test_a_state_of_another_job_is_refused(path, job, leaves, said):
    save(path, STATE)
    with pytest.raises(OptionError, match=said):
        load(path, job, leaves)


@pytest.mark.parametrize("content", [b"", b"half of a zip", b"PK\x03\x04"])
def test_another_file_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(OptionError, match="does not hold the state of this training"):
        load(path, JOB, LEAVES)
