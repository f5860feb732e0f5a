"""How far a long gradient has come: a bar on standard error, or whatever the caller makes of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

# Told how many steps are done, of how many.
OnProgress: TypeAlias = Callable[[int, int], object]


@contextmanager
def shown(progress: bool | OnProgress) -> Generator[OnProgress | None]:
    """What to tell after each step: nobody, a bar that is gone when it is done, or the caller's function."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("gradient"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("gradient", total=None)
        yield lambda done, count: bar.update(task, completed=done, total=count)
