"""Room on Python's stack for deeply nested functions: JAX traces each nested `jit` about seven calls deeper."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

from ckptgrad.errors import NestingError

# Python calls. More could overflow a thread whose C stack has the usual 8 MiB.
DEEPEST = 10_000

_LOCK = threading.Lock()
# The limit outside, for each `deep_stack` in effect: Python has one limit for all threads.
_OUTSIDE: list[int] = []


@contextmanager
def deep_stack() -> Generator[None]:
    """Let Python's stack grow to `DEEPEST` calls inside the `with` block.

    Raises:
        NestingError: that is not enough.
    """
    with _LOCK:
        _OUTSIDE.append(_OUTSIDE[0] if _OUTSIDE else sys.getrecursionlimit())
        sys.setrecursionlimit(max(DEEPEST, sys.getrecursionlimit()))
    try:
        yield
    except NestingError:
        raise
    except RecursionError as error:
        raise NestingError(
            f"Python's stack is too small: {error}. The function calls itself without end, or nests jits, conditions or "
            f"loops too deeply to be traced (hundreds of levels); make a loop of them, or call them one after the other"
        ) from error
    finally:
        with _LOCK:
            outside = _OUTSIDE.pop()
            if not _OUTSIDE:
                sys.setrecursionlimit(outside)
