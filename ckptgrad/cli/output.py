"""Standard output, which is for results alone: what the user's code prints goes to standard error.

A result that cannot be written is an error of one line, not a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from io import UnsupportedOperation
from pathlib import Path
from typing import TextIO

import jax
import typer

from ckptgrad.errors import CkptgradError


class OutputError(CkptgradError):
    """A result that cannot be written."""


# Where results go inside `results_alone`; outside it they go to `sys.stdout`.
_RESULTS: ContextVar[TextIO | None] = ContextVar("results", default=None)


def results() -> TextIO:
    """Where results go.

    Raises:
        OutputError: standard output is closed.
    """
    stream = _RESULTS.get() or sys.stdout
    if stream is None:
        raise OutputError("cannot write to standard output: it is closed")
    return stream


def say(text: str) -> None:
    """Write a result to standard output.

    Raises:
        OutputError: it cannot be written: the disk is full, the reader has gone, the stream is closed.
    """
    stream = results()
    try:
        typer.echo(text, file=stream)
    except (OSError, ValueError) as error:
        drop(stream)
        raise unwritten("to standard output", error) from None


def complain(text: str) -> None:
    """Write a message to standard error, if it can be written to."""
    with suppress(OSError, ValueError):
        typer.echo(f"ckptgrad: {text}", err=True)


def unwritten(what: str, error: Exception) -> OutputError:
    """The error of a result that cannot be written."""
    return OutputError(f"cannot write {what}: {getattr(error, 'strerror', None) or error}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while a file is written into an OutputError that names the file."""
    try:
        yield
    except OSError as error:
        raise unwritten(str(error.filename or path), error) from None


def drop(stream: TextIO) -> None:
    """Discard what a stream could not write; otherwise the interpreter tries again, and complains, when it exits."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def results_alone() -> Iterator[None]:
    """Send to standard error whatever else is printed: by Python code, by callbacks of compiled programs, by C code."""
    with ExitStack() as stack:
        stream = sys.stdout
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
            stream = _moved(stream, stack) or stream
        token = _RESULTS.set(stream)
        stack.callback(_RESULTS.reset, token)
        stack.enter_context(redirect_stdout(sys.stderr))
        try:
            yield
        finally:
            with suppress(Exception):  # an error in a callback was already raised where its result was needed
                jax.effects_barrier()


def _moved(stream: TextIO, stack: ExitStack) -> TextIO | None:
    """The same file under a new descriptor, the old one leading to standard error; None if the stream has none."""
    try:
        descriptor, error = stream.fileno(), sys.stderr.fileno()
        kept = os.dup(descriptor)
    except (OSError, ValueError, AttributeError, UnsupportedOperation):
        return None
    os.dup2(error, descriptor)
    moved = os.fdopen(kept, "w", encoding=stream.encoding, errors="backslashreplace")

    def restore() -> None:
        with suppress(OSError, ValueError):
            moved.flush()
        with suppress(OSError, ValueError):
            stream.flush()
        os.dup2(kept, descriptor)
        with suppress(OSError, ValueError):
            moved.close()

    stack.callback(restore)
    return moved
