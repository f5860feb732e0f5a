"""Tracebacks of the user's code: its own lines, without those of ckptgrad, JAX, Python's library and what is installed."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1])
_LIBRARIES = tuple({_PACKAGE, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")), "<frozen"})
_INSTALLED = ("site-packages", "dist-packages")


def users_traceback(error: BaseException) -> str:
    """The traceback of an exception with the user's lines alone, or "" if there are none.

    What caused it is shown as well, where it has lines of the user's.
    """
    described = traceback.TracebackException.from_exception(error)
    return "".join(described.format()) if _keep_users(described) else ""


def _keep_users(described: traceback.TracebackException) -> bool:
    """Drop what is not the user's; returns whether anything is left."""
    described.stack = traceback.StackSummary.from_list([frame for frame in described.stack if _is_users(frame.filename)])
    for name in ("__cause__", "__context__"):
        other = getattr(described, name)
        if other is not None and not _keep_users(other):
            setattr(described, name, None)
    # JAX says where it has left out frames of its own.
    described.__notes__ = [note for note in described.__notes__ or () if "JAX has removed" not in note]
    is_syntax = hasattr(described, "msg")  # whose file and line are not in the stack
    return bool(described.stack) or is_syntax


def _is_users(filename: str) -> bool:
    return not filename.startswith(_LIBRARIES) and not any(f"/{folder}/" in filename for folder in _INSTALLED)
