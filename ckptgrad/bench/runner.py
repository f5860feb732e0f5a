"""Each case in its own process, one after another, so that its memory and settings do not affect the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import IO, Any

import psutil

from ckptgrad.bench.book import Result
from ckptgrad.bench.registry import Case
from ckptgrad.bench.rows import Row

INTERRUPTED = "interrupted"


def run_case(case: Case, quick: bool, announce: Callable[[str], None]) -> Iterator[Result]:
    """The result so far after each row; the last one is complete.

    The process ends when the iterator does, for whatever reason. Earlier measurements are not reused, unless the
    environment variable CKPTGRAD_CACHE says otherwise.

    Args:
        case: the case to run.
        quick: whether to run it at its quick size.
        announce: called with a few words on what is running.
    """
    start = time.perf_counter()
    date = {"date": datetime.now(UTC).isoformat(timespec="minutes")}
    result = Result(case.name, case.title, case.about, date, quick, failure=INTERRUPTED)
    command = [sys.executable, "-m", "ckptgrad.bench.worker", case.name, *["--quick"] * quick]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={"CKPTGRAD_CACHE": "off"} | os.environ,
            # A keyboard interrupt reaches this process alone, which then ends the case's.
            start_new_session=True,
        )
        try:
            failure = None
            assert process.stdout is not None
            for message in map(json.loads, process.stdout):
                announce(message.get("running", ""))
                failure = message.get("failure", failure)
                result = _updated(result, message, time.perf_counter() - start)
                if "row" in message:
                    yield result
            process.wait()
            if failure is None:
                failure = f"the process ended with exit status {process.returncode}: {_last_line(errors)}"
            yield replace(result, failure=failure, seconds=time.perf_counter() - start)
        finally:
            _end(process)


def _updated(result: Result, message: dict[str, Any], seconds: float) -> Result:
    """The result after a message of the worker."""
    if "row" in message:
        return replace(result, rows=(*result.rows, Row.from_dict(message["row"])), seconds=seconds)
    return replace(result, run=message.get("run", {}) | result.run, seconds=seconds)


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = errors.read().strip().splitlines()
    return lines[-1] if lines else "without a message"


def _end(process: subprocess.Popen) -> None:
    """Kill the process and all its descendants."""
    try:
        parent = psutil.Process(process.pid)
        for running in (*parent.children(recursive=True), parent):
            running.kill()
    except psutil.NoSuchProcess:
        pass
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
