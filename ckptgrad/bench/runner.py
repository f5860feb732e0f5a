"""Cases in processes of their own, one after another: memory and settings of one do not reach the next."""

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
from typing import Any

import psutil

from ckptgrad.bench.book import Result
from ckptgrad.bench.registry import Case
from ckptgrad.bench.rows import Row

INTERRUPTED = "interrupted"


def run_case(case: Case, quick: bool, doing: Callable[[str], None]) -> Iterator[Result]:
    """What the case has found so far, after each row; the last result is the whole one.

    The process ends with the iterator, whatever the reason.  Unless the environment variable CKPTGRAD_CACHE says
    otherwise, nothing that was measured before is used.

    Args:
        case: what to run.
        quick: in its quick size.
        doing: told what is running.
    """
    start = time.perf_counter()
    where = {"date": datetime.now(UTC).isoformat(timespec="minutes")}
    found = Result(case.name, case.title, case.about, where, quick, failure=INTERRUPTED)
    command = [sys.executable, "-m", "ckptgrad.bench.worker", case.name, *["--quick"] * quick]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={"CKPTGRAD_CACHE": "off"} | os.environ,
            # An interrupt from the keyboard reaches this process only, which ends that one.
            start_new_session=True,
        )
        try:
            failure = None
            assert process.stdout is not None
            for message in map(json.loads, process.stdout):
                doing(message.get("doing", ""))
                failure = message.get("failure", failure)
                found = _with(found, message, time.perf_counter() - start)
                if "row" in message:
                    yield found
            process.wait()
            if failure is None:
                failure = f"the process ended with exit status {process.returncode}: {_last_line(errors)}"
            yield replace(found, failure=failure, seconds=time.perf_counter() - start)
        finally:
            _end(process)


def _with(found: Result, message: dict[str, Any], seconds: float) -> Result:
    if "row" in message:
        return replace(found, rows=(*found.rows, Row.from_dict(message["row"])), seconds=seconds)
    return replace(found, run=message.get("run", {}) | found.run, seconds=seconds)


def _last_line(errors: Any) -> str:
    errors.seek(0)
    lines = errors.read().strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _end(process: subprocess.Popen) -> None:
    """End the process and what it started."""
    try:
        parent = psutil.Process(process.pid)
        for each in (*parent.children(recursive=True), parent):
            each.kill()
    except psutil.NoSuchProcess:
        pass
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
