"""Results of the benchmark book as tables and pictures: one panel per value, one line per run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from ckptgrad.bench.book import Book, Result
from ckptgrad.bench.registry import Curves, registered
from ckptgrad.bench.tables import MIB, environments, footer, heading, legend, table, unit_of
from ckptgrad.errors import MissingExtraError
from ckptgrad.report import registry
from ckptgrad.report.plots.style import save_png
from ckptgrad.results.shown import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ckptgrad.report.interactive.looks import Drawn

# Okabe and Ito's colours, told apart by colour-blind readers; line and marker tell them apart in grey.
STYLES = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^"), ("#CC79A7", ":", "D"), ("black", "-", "x"))
PANEL_INCHES = 3.3, 3.1


def save_pictures(book: Book, folder: Path) -> list[Path]:
    """Draw each case that has curves.

    Returns:
        The files, named after the cases.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    _figure_class()
    return [
        save_png(draw_curves(), folder / f"{name}.png")
        for name, result in book.results.items()
        for draw_curves in ShownResult(result).figures().values()
    ]


@dataclass(frozen=True, repr=False)
class ShownResult(Shown):
    """What a case found, with its curves."""

    result: Result


@registry.parts.register(ShownResult)
def parts(shown: ShownResult) -> list[RenderableType]:
    """What the columns mean, the table, and when and where it was measured."""
    result = shown.result
    words = [legend(result.rows), footer(result), environments(Book({result.name: result}))]
    return [result.about, table(result), *filter(None, words)]


@registry.figures.register(ShownResult)
def figures(shown: ShownResult) -> dict[str, Callable[..., Figure]]:
    """The curves of a case that has any."""
    result, case = shown.result, registered().get(shown.result.name)
    return {} if case is None or case.curves is None else {result.title: partial(_drawn, result, case.curves)}


@registry.interactive.register(ShownResult)
def interactive(shown: ShownResult) -> dict[str, Callable[[], Drawn]]:
    """The curves of a case that has any."""
    result, case = shown.result, registered().get(shown.result.name)
    return {} if case is None or case.curves is None else {result.title: partial(_interactive, result, case.curves)}


def _interactive(result: Result, curves: Curves) -> Drawn:
    from ckptgrad.report.interactive.lines import Line, panels
    from ckptgrad.report.interactive.looks import Drawn

    drawn = {
        heading(panel): {run: Line(xs, ys, style) for run, xs, ys, style in _lines(result, curves.x, panel)}
        for panel in curves.panels
    }
    return Drawn(panels(heading(curves.x), drawn), "One line for each run; point at a mark for its figures.")


def _lines(result: Result, x: str, panel: str) -> Iterator[tuple[str, list[float], list[float], tuple[str, str, str]]]:
    """The lines of a panel: the run, its points, its look."""
    scale = MIB if unit_of(panel) == "bytes" else 1
    for i, run in enumerate(dict.fromkeys(row.run for row in result.rows)):
        rows = [row.values for row in result.rows if row.run == run and panel in row.values and x in row.values]
        if rows:
            ys = [values[panel] / scale for values in rows]  # type: ignore[operator]
            yield run, [values[x] for values in rows], ys, STYLES[i % len(STYLES)]  # type: ignore[misc]


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing", "matplotlib", "plot") from None
    return Figure


def _drawn(result: Result, curves: Curves) -> Figure:
    size = PANEL_INCHES[0] * len(curves.panels), PANEL_INCHES[1]
    figure = _figure_class()(figsize=size, layout="constrained")
    draw(figure, result, curves)
    return figure


def draw(figure: Figure, result: Result, curves: Curves) -> None:
    """The panels of a case on a matplotlib figure, both axes logarithmic."""
    handles: dict[str, Any] = {}
    panels = figure.subplots(1, len(curves.panels), squeeze=False)[0]
    for panel, axes in zip(curves.panels, panels, strict=True):
        for run, x, y, (color, line, marker) in _lines(result, curves.x, panel):
            (handles[run],) = axes.plot(x, y, color=color, linestyle=line, marker=marker, markersize=5, linewidth=1.6)
        axes.set(xscale="log", yscale="log", xlabel=heading(curves.x), title=heading(panel))
        axes.grid(visible=True, which="major", color="0.85", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    drawn = [run for run in dict.fromkeys(row.run for row in result.rows) if run in handles]
    figure.suptitle(result.title)
    figure.legend([handles[run] for run in drawn], drawn, loc="outside lower center", ncols=len(drawn), frameon=False)
