"""Measurements on disk: found again, told apart, safe with several processes, never in the way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from ckptgrad.target import remember
from ckptgrad.target.remember import remembered, remembered_together
from ckptgrad.target.target import described

CPU = described("cpu")


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTGRAD_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def refuse():
    raise AssertionError("measured again")


def test_measured_once():
    assert remembered(CPU, "seconds", "program", lambda: 1.5) == 1.5
    assert remembered(CPU, "seconds", "program", refuse) == 1.5


@pytest.mark.parametrize("other", [("bytes", "program"), ("seconds", "another")])
def test_told_apart(other):
    remembered(CPU, "seconds", "program", lambda: 1.5)
    assert remembered(CPU, *other, lambda: 2.5) == 2.5


def test_versions_are_told_apart(monkeypatch):
    remembered(CPU, "seconds", "program", lambda: 1.5)
    monkeypatch.setattr(remember, "VERSIONS", ("0.0.0", *remember.VERSIONS[1:]))
    assert remembered(CPU, "seconds", "program", lambda: 2.5) == 2.5


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda patch: patch.setattr(remember, "VERSIONS", (*remember.VERSIONS[:-1], "0")), id="jaxlib"),
        pytest.param(lambda patch: patch.setattr(remember.os, "cpu_count", lambda: 977), id="cores"),
    ],
)
def test_machines_are_told_apart(change, monkeypatch):
    remembered(CPU, "seconds", "program", lambda: 1.5)
    assert remembered(CPU, "seconds", "program", refuse) == 1.5
    change(monkeypatch)
    assert remembered(CPU, "seconds", "program", lambda: 2.5) == 2.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("cpu", ""), ("cuda", ""), id="platform"),
        pytest.param(("cpu", ""), ("cpu", "E5"), id="kind"),
        pytest.param(("neuron", "A100"), ("neuronA", "100"), id="alike when joined"),
    ],
)
def test_targets_are_told_apart(one, other):
    remembered(described(*one), "seconds", "program", lambda: 1.5)
    assert remembered(described(*one), "seconds", "program", refuse) == 1.5
    assert remembered(described(*other), "seconds", "program", lambda: 2.5) == 2.5


def test_off(monkeypatch):
    monkeypatch.setenv("CKPTGRAD_CACHE", "off")
    assert remember.folder() is None
    assert remembered(CPU, "seconds", "program", lambda: 1.0) == 1.0
    assert remembered(CPU, "seconds", "program", lambda: 2.0) == 2.0


def test_a_broken_file_is_not_in_the_way(fresh):
    fresh.mkdir()
    (fresh / remember.FILE).write_bytes(b"no database" * 100)
    assert remembered(CPU, "seconds", "program", lambda: 3.0) == 3.0


def test_a_folder_that_cannot_be_made(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("CKPTGRAD_CACHE", str(file / "below"))
    assert remembered(CPU, "seconds", "program", lambda: 3.0) == 3.0


def test_several_processes():
    """Each finds its own numbers and those of the others; none fails."""
    code = (
        "import sys; from ckptgrad.target.remember import remembered; from ckptgrad.target.target import described\n"
        "cpu = described('cpu')\n"
        "for k in range(40): assert remembered(cpu, 'n', str(k), lambda: float(k)) == k\n"
        "for k in range(40): remembered(cpu, sys.argv[1], str(k), lambda: float(k))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert remembered(CPU, "2", "39", refuse) == 39.0


@pytest.mark.parametrize(
    "value", ["text", "", None, b"blob", float("inf"), -float("inf"), -1.5, 1e300, 0.0], ids=lambda v: repr(v)
)
def test_what_cannot_have_been_measured_is_measured_again(fresh, value):
    remembered(CPU, "seconds", "program", lambda: 1.5)
    with closing(sqlite3.connect(fresh / remember.FILE)) as database, database:
        assert database.execute("UPDATE measurements SET value = ?", (value,)).rowcount == 1
    assert remembered(CPU, "seconds", "program", lambda: 2.5, positive=True) == 2.5
    assert remembered(CPU, "seconds", "program", refuse, positive=True) == 2.5


def test_no_bytes_are_a_measurement():
    assert remembered(CPU, "bytes", "program", lambda: 0) == 0
    assert remembered(CPU, "bytes", "program", refuse) == 0


def test_a_locked_file_is_not_waited_for(fresh, monkeypatch):
    """A little, but not anew for each measurement."""
    monkeypatch.setattr(remember, "PATIENCE", 0.1)
    monkeypatch.setattr(remember, "MOST_PATIENCE", 0.2)
    remembered(CPU, "seconds", "program", lambda: 1.5)
    with closing(sqlite3.connect(fresh / remember.FILE, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        assert [remembered(CPU, "seconds", str(k), lambda k=k: float(k)) for k in range(1, 40)] == [*range(1, 40)]
        assert time.monotonic() - start < 78 * 0.1 / 2
    assert remembered(CPU, "seconds", "program", refuse) == 1.5


def test_several_numbers_are_measured_at_once():
    two = ("bytes", "seconds")
    assert remembered_together(CPU, two, "program", lambda: (1, 2.5)) == [1, 2.5]
    assert remembered_together(CPU, two, "program", refuse) == [1, 2.5]
    assert remembered(CPU, "seconds", "program", refuse) == 2.5
    assert remembered_together(CPU, (*two, "flops"), "program", lambda: (1, 2.5, 3)) == [1, 2.5, 3]


@pytest.mark.parametrize("flag", ["XLA_FLAGS", "LIBTPU_INIT_ARGS"])
def test_options_of_the_compiler_are_told_apart(monkeypatch, flag):
    remembered(CPU, "bytes", "program", lambda: 1.5)
    monkeypatch.setenv(flag, "--xla_some_option=1")
    assert remembered(CPU, "bytes", "program", lambda: 2.5) == 2.5


def test_versions_of_plugins_are_told_apart(monkeypatch):
    gpu = described("cuda")
    remembered(gpu, "bytes", "program", lambda: 1.5)
    monkeypatch.setattr(remember.Target, "compiler_versions", ("jax-cuda12-pjrt 0.0.0",))
    assert remembered(gpu, "bytes", "program", lambda: 2.5) == 2.5
