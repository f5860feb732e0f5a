"""Where in the user's code an operation came from."""

from __future__ import annotations

import contextlib
import os
import re
import sysconfig
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
from jax.extend import source_info_util

from ckptgrad.interactive import cell_name

_JAX = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# The command, which stands beside the package, and the scripts that start commands: the outermost frames of all that
# commands trace.
_COMMAND = os.path.join(os.path.dirname(_HERE[:-1]), "ckptgrad_command") + os.sep
_SCRIPTS = sysconfig.get_paths()["scripts"] + os.sep
# Models that come with the package are like a user's code.
_MODELS = (_HERE + "bench", _HERE + "training", _HERE + "example_models")
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_SITE = sysconfig.get_paths()["purelib"] + os.sep
# Where installed packages and their commands lie: a model is the user's, the library that it calls is not.
_INSTALLED = tuple({sysconfig.get_paths()[name] + os.sep for name in ("purelib", "platlib", "scripts")})
_INSTALLED_OR_FROZEN = (*_INSTALLED, "<frozen ")
# What JAX writes around a scope inside a transformation, "vmap(encoder)", and for a call of a jitted function, "jit(gelu)".
_TRANSFORMED = re.compile(r"^(\w+)\((.*)\)$")
# Scopes that name no layer: this package's around the work of a stage, Equinox's, which are names of its classes, and
# those that `jax.numpy.einsum` opens, which are its subscripts.
_NO_LAYER = re.compile(r"^((forward|backward)_\d+|eqx\..*|.*->.*)$")

# JAX's messages, and the metadata it gives XLA, name the user's frames rather than those of this package.
for _entry in os.scandir(_HERE):
    if not _entry.path.startswith(_MODELS):
        source_info_util.register_exclusion(_entry.path)
source_info_util.register_exclusion(_COMMAND)


@dataclass(frozen=True)
class SourceLine:
    """A line of the user's code.

    Attributes:
        file, line, function: where it is.
        scope: the layer in which it ran: named scopes, such as the paths of Flax's modules. Lines that differ in it alone
            are equal: a layer that is used twelve times has one line.
    """

    file: str
    line: int
    function: str
    scope: str = field(default="", compare=False)

    def __str__(self) -> str:
        layer = f"{self.scope}, " if self.scope else ""
        return f"{layer}{cell_name(self.file) or self.file}:{self.line} ({self.function})"

    @property
    def brief(self) -> str:
        """Without the folder and the enclosing functions; in a notebook with the cell's number.

        Example:
            >>> SourceLine("models/gpt.py", 6, "Attention.__call__", "GPT/Block_3/attn").brief
            'GPT/Block_3/attn, gpt.py:6'
            >>> SourceLine("models/gpt.py", 6, "loss").brief
            'gpt.py:6 (loss)'
        """
        return f"{self.scope}, {self.place}" if self.scope else f"{self.place} ({self.function.rpartition('<locals>.')[2]})"

    @property
    def place(self) -> str:
        """File and line alone; in a notebook the cell's number and the line.

        Example:
            >>> SourceLine("models/gpt.py", 6, "loss", "GPT").place
            'gpt.py:6'
        """
        return f"{cell_name(self.file) or os.path.basename(self.file)}:{self.line}"


def user_line(source_info: Any) -> SourceLine | None:
    """The user's nearest frame, with the named scopes around it; see `nearest_line`."""
    traceback = getattr(source_info, "traceback", None)
    if traceback is None:
        return None
    frames = ((f.file_name, f.line_num, f.function_name) for f in traceback.frames)
    return nearest_line(frames, scope_of(str(source_info.name_stack)))


def nearest_line(frames: Iterable[tuple[str, int, str]], scope: str = "") -> SourceLine | None:
    """The innermost frame outside JAX, this package, the standard library and, if there is one, installed packages.

    Args:
        frames: file, line and function, the innermost first.
        scope: the named scopes around it.
    """
    fallback = None
    for frame in frames:
        if is_user_file(frame[0]):
            if not is_installed(frame[0]):
                return SourceLine(*frame, scope)
            fallback = fallback or SourceLine(*frame, scope)
    return fallback


def scope_of(stack: str) -> str:
    """The user's named scopes in a stack of names as JAX writes it.

    Example:
        >>> scope_of("jit(loss)/forward_3/vmap(GPT/Block_0)/jit(gelu)/attn")
        'GPT/Block_0/attn'
    """
    names: list[str] = []
    for part in _parts(stack):
        match = _TRANSFORMED.match(part)
        if match is None:
            names += [] if _NO_LAYER.match(part) else [part]
        elif match[1] not in ("jit", "pjit", "checkpoint", "remat"):
            names += [inner] if (inner := scope_of(match[2])) else []
    return "/".join(names)


def _parts(stack: str) -> list[str]:
    """The names of a stack; what stands in brackets is one."""
    parts, depth = [""], 0
    for letter in stack:
        depth += (letter == "(") - (letter == ")")
        if letter == "/" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def is_user_file(name: str) -> bool:
    """Whether a file is neither JAX's, nor this package's, nor the standard library's, nor starts a command."""
    # A command's own name is as it was typed.
    return _is_user_path(name if os.path.isabs(name) else os.path.abspath(name))


@lru_cache(maxsize=4096)
def _is_user_path(name: str) -> bool:
    """The same of an absolute path; asked for each frame of each operation."""
    if name.startswith(_MODELS):
        return True
    name = os.path.abspath(name)
    return not name.startswith((_JAX, _HERE, _COMMAND, _SCRIPTS)) and (
        not name.startswith(_STDLIB) or name.startswith(_SITE)
    )


def is_installed(name: str) -> bool:
    """Whether a file belongs to an installed package, or starts the interpreter, and not to the package's own models."""
    return name.startswith(_INSTALLED_OR_FROZEN) and not name.startswith(_MODELS)


def has_own_line(source_info: Any) -> bool:
    """Whether an operation of a called program was traced at a line of the user's own."""
    line = user_line(source_info)
    return line is not None and not is_installed(line.file)


def inside_call(source_info: Any, call: Any, own_line: bool) -> Any:
    """Where an operation of a called program comes from: within the scopes of the call; at its line, if it has none itself.

    JAX traces what it calls once, for whichever call comes first, with frames and scopes of its own alone.
    """
    if getattr(source_info, "name_stack", None) is None or getattr(call, "name_stack", None) is None:
        return source_info
    own = source_info.traceback if own_line else call.traceback
    return source_info.replace(traceback=own, name_stack=call.name_stack + source_info.name_stack)


def at_line_of(source_info: Any) -> AbstractContextManager[None]:
    """A context in which what JAX records has that line and its named scopes, for XLA and profilers."""
    traceback = getattr(source_info, "traceback", None)
    if traceback is None:
        return contextlib.nullcontext()
    scopes = source_info_util.current_name_stack() + source_info.name_stack
    return source_info_util.user_context(traceback, name_stack=scopes)
