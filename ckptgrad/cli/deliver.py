"""How results are delivered: as text or JSON, as an HTML page, as pictures; and what is shown while they are made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ckptgrad.cli.about import made_by
from ckptgrad.cli.output import say, writing
from ckptgrad.report.page import page
from ckptgrad.report.plots.style import save_png
from ckptgrad.report.text import plain_console
from ckptgrad.results.shown import Shown


def deliver(
    title: str, sections: Mapping[str, Shown], as_json: bool, html: Path | None = None, png: Path | None = None
) -> None:
    """Print the first result, and write all of them as a page and as pictures if asked for; see `write`."""
    main: Any = next(iter(sections.values()))
    say(to_json(main.to_dict()) if as_json else str(main))
    write(title, sections, html, png)


def to_json(data: Any) -> str:
    """Plain data as JSON, which has neither infinities nor NaN: they become null."""
    return json.dumps(_finite(data), indent=2, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def write(title: str, sections: Mapping[str, Shown], html: Path | None, png: Path | None) -> None:
    """Write results as a page and as pictures.

    Args:
        title: of the page.
        sections: headings and results; if `png` is one file, the first picture of the first result is drawn.
        html, png: paths to write to, or None.

    Raises:
        OutputError: a file cannot be written.
    """
    if html is not None:
        write_text(html, page(title, sections, made_by(sections)))
    if png is not None:
        with writing(png):
            for path in _draw(sections, png):
                typer.echo(f"drawn: {path}", err=True)


def write_text(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(path):
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    typer.echo(f"written: {path}", err=True)


def _draw(sections: Mapping[str, Shown], png: Path) -> Iterator[Path]:
    figures = {name: draw for result in sections.values() for name, draw in result.figures().items()}
    if png.suffix.lower() == ".png":
        yield save_png(next(iter(figures.values()))(), png)
        return
    for name, draw in figures.items():
        yield save_png(draw(), png / f"{name.replace(' ', '_')}.png")


def on_stderr(*columns: ProgressColumn) -> Progress:
    """A display on a terminal's stderr that is gone when it is done; nothing in files and pipes, not even empty lines."""
    console = plain_console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def working(doing: str) -> Iterator[Progress]:
    """Show on stderr what is being done and for how long, until it is done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with on_stderr(*columns) as progress:
        progress.add_task(doing, total=None)
        yield progress


@contextmanager
def stepping(doing: str) -> Iterator[Any]:
    """Show a bar on stderr; yields a function (what is being done, steps done, steps in total) that moves it."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with on_stderr(*columns) as progress:
        task = progress.add_task(doing, total=None)

        def step(what: str, done: int, total: int) -> None:
            progress.update(task, description=f"{doing}: {what}", completed=done, total=total)

        yield step
