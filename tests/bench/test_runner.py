"""Cases in processes of their own, of which a small program stands for the worker."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from ckptgrad.bench import runner
from ckptgrad.bench.registry import Case
from ckptgrad.bench.runner import INTERRUPTED, run_case

CASE = Case("mine", "Mine against theirs", "What the columns mean.", lambda bench: iter(()))
HEAD = """
import json, sys, time
say = lambda **message: print(json.dumps(message), flush=True)
row = lambda run: say(row=dict(run=run, group=""))
"""


@pytest.fixture
def worker(monkeypatch):
    """Runs a text in place of the worker; the commands and processes that were started."""
    started, popen = [], subprocess.Popen

    def stand_in(text):
        def start(command, **options):
            process = popen([sys.executable, "-c", HEAD + text], **options)
            started.append((command, options, process))
            return process

        monkeypatch.setattr(runner.subprocess, "Popen", start)
        return started

    return stand_in


def results(quick=True, announce=lambda text: None):
    return [*run_case(CASE, quick, announce)]


def test_a_result_after_each_row_and_a_complete_one(worker):
    announced = []
    worker("say(run={'commit': 'abc'}); say(running='first'); row('a'); say(running='second'); row('b'); say(failure='')")
    found = results(announce=announced.append)
    assert [[row.run for row in result.rows] for result in found] == [["a"], ["a", "b"], ["a", "b"]]
    assert [result.failure for result in found] == [INTERRUPTED, INTERRUPTED, ""]
    last = found[-1]
    assert (last.name, last.title, last.quick, last.run["commit"]) == ("mine", CASE.title, True, "abc")
    assert "date" in last.run
    assert last.seconds > 0
    assert [text for text in announced if text] == ["first", "second"]


def test_what_the_case_raised_is_told(worker):
    worker("row('a'); say(failure='ValueError: no')")
    assert results()[-1].failure == "ValueError: no"


def test_a_process_that_dies_says_its_last_words(worker):
    worker("row('a'); print('out of memory', file=sys.stderr); sys.exit(7)")
    assert results()[-1].failure == "the process ended with exit status 7: out of memory"
    worker("sys.exit(1)")
    assert results()[-1].failure == "the process ended with exit status 1: without a message"


def is_gone(pid):
    """Whether a process ends within ten seconds; it may not have been waited for."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_the_process_ends_with_the_iterator_and_its_children_too(worker):
    started = worker(
        "import subprocess; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "row(str(child.pid)); time.sleep(60)"
    )
    running = run_case(CASE, True, lambda text: None)
    child = int(next(running).rows[0].run)
    running.close()
    assert started[0][2].returncode is not None
    assert is_gone(child)


@pytest.mark.parametrize("quick", [True, False])
def test_earlier_measurements_are_not_used_unless_that_is_asked_for(worker, monkeypatch, quick):
    monkeypatch.delenv("CKPTGRAD_CACHE", raising=False)
    started = worker("say(failure='')")
    results(quick)
    monkeypatch.setenv("CKPTGRAD_CACHE", "elsewhere")
    results(quick)
    command = started[0][0]
    assert command[1:] == ["-m", "ckptgrad.bench.worker", "mine", *["--quick"] * quick]
    assert [options["env"]["CKPTGRAD_CACHE"] for _, options, _ in started] == ["off", "elsewhere"]
