"""`ckptgrad train`, as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

ROOT = Path(__file__).parents[2]
SMALL = ["--depth", "2", "--width", "16", "--heads", "2", "--context", "16", "--batch", "8"]


def test_train(run, tmp_path):
    words = [
        "--steps",
        "20",
        "--learning-rate",
        "0.01",
        "--text",
        "text.txt",
        "--budget",
        "0.8x",
        "--meters",
        "none",
        "--repeats",
        "1",
    ]
    found = json.loads(run("train", *SMALL, *words, "--json", "--html", "train.html", "--png", "drawn").stdout)
    assert len(found["losses"]) == 20
    assert found["losses"][-1] < found["losses"][0] - 1
    assert found["certified_peak_bytes"] <= found["plan"]["budget_bytes"]
    assert found["validation"]["passed"]
    assert found["sample"].startswith("The ")
    page = (tmp_path / "train.html").read_text()
    assert all(part in page for part in ("Validation", "Loss of each step", "sampled: The "))
    assert (tmp_path / "drawn/loss.png").exists()
    assert (tmp_path / "drawn/schedule.png").exists()


def start(folder, *words, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CKPTGRAD_CACHE": str(folder / "cache"), **environment}
    command = [sys.executable, "-m", "ckptgrad.cli", "train", *SMALL, "--budget", "0.8x", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, cwd=folder, **pipes)


def wait_for(condition, seconds=400):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_two_processes_train_like_one_on_real_text(tmp_path):
    """To rounding, in double precision; the first alone reports."""
    words = ["--steps", "20", "--learning-rate", "0.01", "--meters", "none", "--repeats", "1", "--json"]
    started = [start(tmp_path, *words, *more, JAX_ENABLE_X64="1") for more in ([], ["--processes", "2"])]
    written = [process.communicate(timeout=600) for process in started]
    assert [process.returncode for process in started] == [0, 0], written
    one, two = (json.loads(out) for out, _ in written)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-12)
    assert two["losses"][-1] < two["losses"][0] - 1
    assert two["validation"]["passed"]
    assert two["sample"] == one["sample"]
    assert two["plan"]["devices"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_others_and_leaves_files_whole(tmp_path, killed):
    words = ["--steps", "100000", "--save", "state.npz", "--save-every", "1"]
    launcher = start(tmp_path, *words, "--processes", "2")
    try:
        wait_for(lambda: (tmp_path / "state.npz").exists() or launcher.poll() is not None)
        workers = psutil.Process(launcher.pid).children()
        numbers = {worker.environ()["JAX_PROCESS_ID"]: worker for worker in workers}
        time.sleep(0.5)
        numbers[str(killed)].send_signal(signal.SIGKILL)
        _, errors = launcher.communicate(timeout=60)
    finally:
        launcher.kill()
    assert launcher.returncode == 2, errors
    assert f"process {killed} of 2 was killed by signal 9, and the others were ended" in " ".join(errors.split())
    wait_for(lambda: not any(worker.is_running() for worker in workers), 20)
    with np.load(tmp_path / "state.npz") as state:
        assert all(np.isfinite(state[name]).all() for name in state.files if name != "job")
    with closing(sqlite3.connect(tmp_path / "cache/measurements.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path):
    launcher = start(tmp_path, "--steps", "100000", "--processes", "2")
    try:
        wait_for(lambda: len(psutil.Process(launcher.pid).children()) == 2)
        workers = psutil.Process(launcher.pid).children()
        time.sleep(5)
    finally:
        launcher.kill()
    wait_for(lambda: not any(worker.is_running() for worker in workers), 60)


@pytest.mark.slow
def test_an_error_of_all_processes_is_said_once(tmp_path):
    launcher = start(tmp_path, "--processes", "2", "--batch", "7")
    _, errors = launcher.communicate(timeout=400)
    assert launcher.returncode == 2
    assert errors.count("a batch of 7 cannot be divided among 2 devices") == 1


@pytest.mark.slow
def test_what_does_not_fit_without_repeating_more_is_trained_with_a_disk(run, tmp_path):
    """Each forward runs again once: all boundaries are held then, or sent."""
    (tmp_path / "scratch").mkdir()
    deep = ["--depth", "12", "--width", "32", "--heads", "2", "--context", "64", "--batch", "16", "--chunks", "false"]
    words = [*deep, "--steps", "2", "--meters", "none", "--repeats", "1", "--text", "text.txt", "--policy", "recompute_all"]
    staged = [*words, "--runtime", "staged", "--budget", "5MiB"]
    refused = run("train", *staged, code=2)
    assert "a budget of 5242880 bytes (5 MiB) is below the smallest feasible peak" in refused.output
    assert "boundaries" in refused.output
    found = json.loads(run("train", *staged, "--tiers", f"disk:{tmp_path / 'scratch'}:1GiB", "--json").stdout)
    assert found["certified_peak_bytes"] <= 5 * 2**20
    assert any(action.startswith(">") for action in found["plan"]["schedule"])
    assert found["validation"]["passed"]
    # What is compared is what was trained with.
    assert found["validation"]["rows"][-1]["readings"]["xla"]["bytes"] == found["certified_peak_bytes"]
    assert os.listdir(tmp_path / "scratch") == []
