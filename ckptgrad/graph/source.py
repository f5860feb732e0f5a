"""Where in the user's code an operation came from."""

from __future__ import annotations

import contextlib
import os
import sysconfig
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend import source_info_util

from ckptgrad.interactive import cell_name

_JAX = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Models that come with the package are like a user's code.
_MODELS = (_HERE + "bench", _HERE + "training", _HERE + "example_models")
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_SITE = sysconfig.get_paths()["purelib"] + os.sep

# JAX's messages, and the metadata it gives XLA, name the user's frames rather than those of this package.
for _entry in os.scandir(_HERE):
    if not _entry.path.startswith(_MODELS):
        source_info_util.register_exclusion(_entry.path)


@dataclass(frozen=True)
class SourceLine:
    """A line of the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{cell_name(self.file) or self.file}:{self.line} ({self.function})"

    @property
    def brief(self) -> str:
        """Without the folder and the enclosing functions; in a notebook with the cell's number."""
        file = cell_name(self.file) or os.path.basename(self.file)
        return f"{file}:{self.line} ({self.function.rpartition('<locals>.')[2]})"


def user_line(source_info: Any) -> SourceLine | None:
    """The innermost frame outside JAX, this package and the standard library."""
    traceback = getattr(source_info, "traceback", None)
    if traceback is None:
        return None
    frames = ((f.file_name, f.line_num, f.function_name) for f in traceback.frames)
    return next((SourceLine(*frame) for frame in frames if is_user_file(frame[0])), None)


def is_user_file(name: str) -> bool:
    """Whether a file is neither JAX's, nor this package's, nor the standard library's."""
    if name.startswith(_MODELS):
        return True
    return not name.startswith((_JAX, _HERE)) and (not name.startswith(_STDLIB) or name.startswith(_SITE))


def at_line_of(source_info: Any) -> AbstractContextManager[None]:
    """A context in which what JAX records has that line and its named scopes, for XLA and profilers."""
    traceback = getattr(source_info, "traceback", None)
    if traceback is None:
        return contextlib.nullcontext()
    scopes = source_info_util.current_name_stack() + source_info.name_stack
    return source_info_util.user_context(traceback, name_stack=scopes)
