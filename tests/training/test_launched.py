"""Processes that are started together: they end together, and one that fails is heard."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ckptgrad.errors import OptionError, ProcessesError
from ckptgrad.training import launched
from ckptgrad.training.launched import COUNT, NUMBER, is_launched, join, launch

ROOT = Path(__file__).parents[2]
NUMBERED = f"import os, sys, time, signal; number = int(os.environ[{NUMBER!r}]); "
SLEEP = "time.sleep(60)"


def run(code, count=2):
    started = time.monotonic()
    try:
        return launch([sys.executable, "-c", NUMBERED + code], count)
    finally:
        assert time.monotonic() - started < 40


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(launched, "PATIENCE", 0.5)


def test_the_first_speaks_for_all(capfd):
    assert run(f"print(number, os.environ[{COUNT!r}]); print('error', number, file=sys.stderr)", 3) == 0
    assert capfd.readouterr() == ("0 3\n", "error 0\n")


def test_a_failure_of_all_is_an_exit_code(capfd):
    assert run("print('no', number, file=sys.stderr); sys.exit(2)") == 2
    assert capfd.readouterr().err == "no 0\n"


@pytest.mark.parametrize("failing", [0, 1])
def test_who_waits_for_one_that_failed_is_ended(failing):
    with pytest.raises(ProcessesError, match=rf"process {failing} of 2 ended with exit code 3") as error:
        run(f"print('lost', file=sys.stderr); sys.exit(3) if number == {failing} else {SLEEP}")
    assert ("it said: lost" in str(error.value)) == (failing == 1)


def test_one_that_is_killed_is_named_whatever_becomes_of_the_others():
    with pytest.raises(ProcessesError, match="process 1 of 3 was killed by signal 9"):
        run(f"os.kill(os.getpid(), 9) if number == 1 else {SLEEP}", 3)


def test_one_that_ignores_the_end_is_killed():
    with pytest.raises(ProcessesError, match="process 1 of 2 ended with exit code 3"):
        run(f"signal.signal(15, signal.SIG_IGN); (time.sleep(0.3), sys.exit(3)) if number == 1 else {SLEEP}")


def test_this_process_is_alone():
    assert not is_launched()
    join()


def test_an_environment_that_is_not_complete(monkeypatch):
    monkeypatch.setenv(NUMBER, "1")
    with pytest.raises(OptionError, match="JAX_COORDINATOR_ADDRESS"):
        join()


@pytest.mark.slow
@pytest.mark.parametrize(("error", "code"), [("SystemExit(2)", 2), ("KeyError('lost')", 1)])
def test_a_launched_process_that_fails_waits_for_nobody(error, code):
    """Not even for what is to be done at exit, where JAX waits for the others."""
    program = (
        f"import atexit, time; atexit.register(time.sleep, 60); from ckptgrad.training.launched import failing_at_once\n"
        f"with failing_at_once(): raise {error}"
    )
    env = {**os.environ, NUMBER: "0"}
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, timeout=40, check=False)
    assert done.returncode == code
