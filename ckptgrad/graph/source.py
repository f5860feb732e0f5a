"""Where in the user's code an operation came from."""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from typing import Any

import jax

_JAX = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_SITE = sysconfig.get_paths()["purelib"] + os.sep


@dataclass(frozen=True)
class SourceLine:
    """A line of the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"


def user_line(source_info: Any) -> SourceLine | None:
    """The innermost frame outside JAX, this package and the standard library."""
    traceback = getattr(source_info, "traceback", None)
    if traceback is None:
        return None
    for frame in traceback.frames:
        name = frame.file_name
        if name.startswith((_JAX, _HERE)):
            continue
        if name.startswith(_STDLIB) and not name.startswith(_SITE):
            continue
        return SourceLine(name, frame.line_num, frame.function_name)
    return None
