"""The command `ckptgrad`: says that it starts before JAX is imported, which takes a while.

It stands beside the package because importing anything of the package imports JAX.
"""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """The entry point."""
    if sys.argv[1:] == ["--version"]:
        print(f"ckptgrad {_version()}")
        return
    with _starting():
        from ckptgrad.cli import main as run
    run()


def _version() -> str:
    """The version that the package states, without an import of it."""
    found = find_spec("ckptgrad")
    text = Path(str(found and found.origin)).read_text(encoding="utf-8")
    return text.partition('__version__ = "')[2].partition('"')[0]


def _starting() -> AbstractContextManager[object]:
    """A spinner on a terminal's standard error; nothing elsewhere, nor while a shell asks for completions."""
    if not sys.stderr.isatty() or "_CKPTGRAD_COMPLETE" in os.environ:
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("starting")
