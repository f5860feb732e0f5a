"""Several processes of this machine that train together: how they are started, joined and ended.

Each runs the same command, and learns its place from the environment: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID, which other launchers may set as well.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import jax

from ckptgrad.errors import OptionError, ProcessesError

ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# Of processes that share a machine's GPUs each sees one.
_OWN_DEVICE = "JAX_LOCAL_DEVICE_IDS"
# Set for processes whose standard input ends with the process that started them.
_SUPERVISED = "CKPTGRAD_SUPERVISED"

# Seconds to wait for all to start.
JOINING = 120
# Seconds that the others have to end by themselves once one has failed, and to obey once they are told to.
PATIENCE = 3.0
_POLL = 0.05
# Of what a process wrote last, the characters that are shown.
_SHOWN = 1500


def is_launched() -> bool:
    """Whether the environment says that this process is one of several."""
    return NUMBER in os.environ


def join() -> None:
    """Join the other processes, if the environment says that there are some; before JAX is asked for its devices.

    Raises:
        OptionError: the environment is not complete.
    """
    if not is_launched():
        return
    try:
        address, count, number = os.environ[ADDRESS], int(os.environ[COUNT]), int(os.environ[NUMBER])
    except (KeyError, ValueError) as error:
        raise OptionError(
            f"{NUMBER} is set, and so must be {ADDRESS} and {COUNT}, to an address and a number: {error}"
        ) from None
    if os.environ.get(_SUPERVISED):
        threading.Thread(target=_end_with_launcher, daemon=True).start()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, number, initialization_timeout=JOINING)


@contextmanager
def failing_at_once() -> Iterator[None]:
    """End a process that fails without waiting for the others, as JAX would: they may wait for it."""
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else None
        if not is_launched() or code == 0:
            raise
        if not isinstance(code, int):
            traceback.print_exception(error)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code if isinstance(code, int) else 1)


def _end_with_launcher() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(2)


@dataclass(frozen=True)
class _Member:
    """One of the processes; what it writes to standard error is kept, except for the first, which speaks for all."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes] | None

    @property
    def said(self) -> str:
        if self.errors is None:
            return ""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()[-_SHOWN:]


def launch(command: Sequence[str], count: int) -> int:
    """Run a command in several processes that join, and wait for them; the first one has this one's output.

    If one fails the others are ended.

    Returns:
        The exit code, where it is the same for all.

    Raises:
        ProcessesError: one was killed, or failed and the others did not fail alike.
    """
    with ExitStack() as stack:
        members = [_start(command, k, environment, stack) for k, environment in enumerate(_environments(count))]
        stack.callback(_end, members)
        failed = _first_to_fail(members)
        if failed is None:
            return 0
        _wait(members, PATIENCE)
        codes = [member.process.poll() for member in members]
        code = codes[failed] or 0
        if code > 0 and all(other == code for other in codes):
            return code
        _end(members)
        raise ProcessesError(_what_happened(failed, code, members))


def _environments(count: int) -> list[Mapping[str, str]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    common = {**os.environ, ADDRESS: address, COUNT: str(count), _SUPERVISED: "1"}
    return [{**common, NUMBER: str(k), _OWN_DEVICE: str(k)} for k in range(count)]


def _start(command: Sequence[str], number: int, environment: Mapping[str, str], stack: ExitStack) -> _Member:
    if number == 0:
        return _Member(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE), None)
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it
    stack.enter_context(errors)
    silent = subprocess.DEVNULL
    return _Member(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=silent, stderr=errors), errors)


def _first_to_fail(members: Sequence[_Member]) -> int | None:
    """The first that ends with an error; None once all have ended without."""
    while True:
        codes = [member.process.poll() for member in members]
        failed = [k for k, code in enumerate(codes) if code]
        if failed:
            # Who was killed did not fail because another one did.
            return min(failed, key=lambda k: codes[k] or 0)
        if all(code == 0 for code in codes):
            return None
        time.sleep(_POLL)


def _wait(members: Sequence[_Member], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(member.process.poll() is None for member in members):
        time.sleep(_POLL)


def _end(members: Sequence[_Member]) -> None:
    for stop in (subprocess.Popen.terminate, subprocess.Popen.kill):
        running = [member for member in members if member.process.poll() is None]
        for member in running:
            stop(member.process)
        _wait(running, PATIENCE)


def _what_happened(failed: int, code: int, members: Sequence[_Member]) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = members[failed].said
    return f"process {failed} of {len(members)} {how}, and the others were ended{f'; it said: {said}' if said else ''}"
