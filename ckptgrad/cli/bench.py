"""`ckptgrad bench`: run the benchmark book, or show what was saved of it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ckptgrad.bench.book import Book, Result
from ckptgrad.bench.registry import Case, get_cases
from ckptgrad.bench.runner import run_case
from ckptgrad.bench.shown import ShownResult, save_pictures
from ckptgrad.bench.tables import comparison, environments, page, section
from ckptgrad.cli.deliver import on_stderr, to_json, write
from ckptgrad.cli.options import HtmlFile, in_a_folder
from ckptgrad.cli.output import complain, say
from ckptgrad.errors import OptionError
from ckptgrad.report.text import plain_console

WIDTH = 160
INTERRUPTED_EXIT = 130
ALL = "all"


def bench(
    cases: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CASE]...",
            help="Cases, beginnings of their names (targets, targets-h100), all; asks if none is named.",
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the cases.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, seconds each: shows that the cases run; the figures mean nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, with the pictures of --png.")] = False,
    output: Annotated[Path | None, typer.Option(help="Add the results to this file, case by case.")] = None,
    png: Annotated[Path | None, typer.Option(callback=in_a_folder, help="Draw the curves into this folder.")] = None,
    html: HtmlFile = None,
    compare: Annotated[Path | None, typer.Option(help="Saved results: show where the new ones differ from them.")] = None,
    show: Annotated[Path | None, typer.Option(help="Show saved results instead of running.")] = None,
) -> None:
    """Compare with jax.grad, jax.checkpoint, equinox, diffrax, torch and checkpoint-schedules: bytes, times, steps."""
    if show is not None and (quick or output is not None):
        raise OptionError("--show runs nothing: leave out --quick and --output")
    # The name of a saved result may be that of a case that no longer exists.
    selected = get_cases([] if cases == [ALL] else cases or []) if show is None else []
    if list_ or (show is None and not cases):
        width = max(len(case.name) for case in selected) + 2
        say("\n".join(f"{case.name:<{width}}{case.title}" for case in selected))
        selected = [] if list_ else _asked()
        if not selected:
            return
    earlier = None if compare is None else Book.load(compare)
    if png is not None:
        save_pictures(Book(), png)  # raises now rather than after hours if nothing can be drawn
    quiet, failed = as_json or as_markdown, False
    if show is not None:
        saved = Book.load(show)
        book = Book({name: saved.results[name] for name in _names(saved, cases)})
        if not quiet:
            _show(*book.results.values())
    else:
        book = Book()
        failed = _run(selected, quick, book, output, quiet)
    pictures = [] if png is None else save_pictures(book, png)
    if as_json:
        say(to_json(book.to_dict()))
    elif as_markdown:
        say(page(book, pictures).removesuffix("\n"))
    else:
        say(environments(book))
    if earlier is not None:
        plain_console(width=WIDTH, stderr=as_json).print(comparison(book, earlier))
    for path in pictures:
        typer.echo(f"drawn: {path}", err=True)
    shown = {f"{name}: {result.title}": ShownResult(result) for name, result in book.results.items()}
    write("The benchmark book", shown, html, None)
    if failed:
        raise typer.Exit(1)


def _asked() -> list[Case]:
    """The cases that the user names when asked; none where nobody can answer."""
    if not _can_answer():
        complain(f"name cases, or {ALL!r}")
        return []
    words = str(typer.prompt(f"Which? Names, their beginnings, {ALL!r}", default="none", err=True)).replace(",", " ").split()
    return [] if words == ["none"] else get_cases([] if words == [ALL] else words)


def _can_answer() -> bool:
    return sys.stdin.isatty()


def _names(saved: Book, names: list[str] | None) -> list[str]:
    for name in names or ():
        if name not in saved.results:
            raise OptionError(f"this file has no results of {name!r}; it has {', '.join(saved.results) or 'none'}")
    return names or list(saved.results)


def _run(cases: list[Case], quick: bool, book: Book, output: Path | None, quiet: bool) -> bool:
    """Run cases and show each when it is done; returns whether one failed."""
    kept = Book.load(output) if output is not None and output.exists() else Book()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    failed = False
    with on_stderr(*columns) as progress:
        task = progress.add_task("", total=len(cases))
        for case in cases:
            try:
                for result in run_case(case, quick, partial(_describe, progress, task, case.name)):
                    book.add(result)
                    kept.add(result)
                    if output is not None:
                        kept.save(output)
            except KeyboardInterrupt:
                typer.echo(f"interrupted in {case.name!r}; kept: {output or 'nothing, there is no --output'}", err=True)
                raise typer.Exit(INTERRUPTED_EXIT) from None
            progress.advance(task)
            result = book.results[case.name]
            if not quiet:
                progress.stop()
                _show(result)
                progress.start()
            if result.failure:
                failed = True
                typer.echo(f"ckptgrad: case {case.name!r} ended early: {result.failure}", err=True)
    return failed


def _describe(progress: Progress, task: TaskID, case: str, doing: str) -> None:
    progress.update(task, description=f"{case}: {doing}" if doing else case)


def _show(*results: Result) -> None:
    console = plain_console(width=WIDTH, highlight=False)
    for result in results:
        console.print(section(result))
