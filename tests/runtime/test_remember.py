"""Measurements on disk: found again, told apart, safe with several processes, never in the way."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ckptgrad.runtime import remember
from ckptgrad.runtime.remember import remembered


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTGRAD_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def refuse():
    raise AssertionError("measured again")


def test_measured_once():
    assert remembered("seconds", "program", lambda: 1.5) == 1.5
    assert remembered("seconds", "program", refuse) == 1.5


@pytest.mark.parametrize("other", [("bytes", "program"), ("seconds", "another")])
def test_told_apart(other):
    remembered("seconds", "program", lambda: 1.5)
    assert remembered(*other, lambda: 2.5) == 2.5


def test_versions_are_told_apart(monkeypatch):
    remembered("seconds", "program", lambda: 1.5)
    monkeypatch.setattr(remember.jax, "__version__", "0.0.0")
    assert remembered("seconds", "program", lambda: 2.5) == 2.5


def test_off(monkeypatch):
    monkeypatch.setenv("CKPTGRAD_CACHE", "off")
    assert remember.folder() is None
    assert remembered("seconds", "program", lambda: 1.0) == 1.0
    assert remembered("seconds", "program", lambda: 2.0) == 2.0


def test_a_broken_file_is_not_in_the_way(fresh):
    fresh.mkdir()
    (fresh / remember.FILE).write_bytes(b"no database" * 100)
    assert remembered("seconds", "program", lambda: 3.0) == 3.0


def test_a_folder_that_cannot_be_made(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("CKPTGRAD_CACHE", str(file / "below"))
    assert remembered("seconds", "program", lambda: 3.0) == 3.0


def test_several_processes():
    """Each finds its own numbers and those of the others; none fails."""
    code = (
        "import sys; from ckptgrad.runtime.remember import remembered\n"
        "for k in range(40): assert remembered('n', str(k), lambda: float(k)) == k\n"
        "for k in range(40): remembered(sys.argv[1], str(k), lambda: float(k))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert remembered("2", "39", refuse) == 39.0
