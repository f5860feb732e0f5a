"""What a page says of how it was made."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

from ckptgrad import __version__
from ckptgrad.results.shown import Shown
from ckptgrad.target.named import target as named_target
from ckptgrad.target.target import Target


def made_by(sections: Mapping[str, Shown]) -> list[str]:
    """What results are for, the versions that made them, the command, and when."""
    results: list[Any] = [*sections.values()]
    targets = dict.fromkeys(_words(result.target) for result in results if hasattr(result, "target"))
    made_for = ", ".join(filter(None, targets))
    versions = (
        f"ckptgrad {__version__}, JAX {version('jax')}, jaxlib {version('jaxlib')}, Python {platform.python_version()}"
    )
    command = shlex.join(["ckptgrad", *sys.argv[1:]])
    now = datetime.now().astimezone()
    return [*([f"device: {made_for}"] if made_for else []), versions, f"$ {command}", f"{now:%Y-%m-%d %H:%M %Z}"]


def _words(target: Any) -> str:
    """A target, or its name; None for what is attached."""
    target = named_target(None) if target is None else target
    if isinstance(target, Target):
        return f"{target}{'' if target.attached or not target.devices else ', compiled for and not attached'}"
    return str(target)
