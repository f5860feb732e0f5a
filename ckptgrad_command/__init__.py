"""The command `ckptgrad`: says that it starts before JAX is imported, which takes a while.

It stands beside the package because importing anything of the package imports JAX.
"""

import os
import sys
from contextlib import AbstractContextManager, nullcontext


def main() -> None:
    """The entry point."""
    with _starting():
        from ckptgrad.cli import main as run
    run()


def _starting() -> AbstractContextManager[object]:
    """A spinner on a terminal's standard error; nothing elsewhere, nor while a shell asks for completions."""
    if not sys.stderr.isatty() or "_CKPTGRAD_COMPLETE" in os.environ:
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("starting")
