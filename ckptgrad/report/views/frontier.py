"""A frontier as a table: budgets, times, and where other policies stand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from ckptgrad.bytes import device_words, format_bytes
from ckptgrad.graph.naming import counted
from ckptgrad.planning.frontier import Point
from ckptgrad.report import registry
from ckptgrad.report.legend import dim_legend
from ckptgrad.report.plots.frontier import plot_frontier
from ckptgrad.report.tables import NOTHING, need_words, table_of
from ckptgrad.results.frontier import Frontier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 24
COLUMNS = {
    "peak": "bytes beyond the arguments: a budget of that many has this plan",
    "of fastest": "as a share of the peak of the fastest plan",
    "time": "estimated, in times that of the fastest plan",
    "optimal, same peak": "the time of the optimal plan within as many bytes",
}


@registry.parts.register(Frontier)
def parts(frontier: Frontier) -> list[RenderableType]:
    """Points spread over the frontier, then other policies beside the optimal plan with the same peak."""
    points, fastest, knee = frontier.points, frontier.points[-1], frontier.knee
    table = table_of("peak", "of fastest", "time", "policy", "optimal, same peak", left=("policy",))
    step = max(1, -(-len(points) // MOST_POINTS))
    spread = {*points[:-1:step], fastest, *([knee] if knee else [])}
    shown: list[list[str]] = []
    for point in (point for point in points if point in spread):
        *cells, policy = _point_cells(point, fastest)
        row = [*cells, f"{policy}, the knee" if point == knee else policy, ""]
        if row not in shown[-1:]:  # not two that read alike
            shown.append(row)
            table.add_row(*row)
    for point in sorted(frontier.others, key=lambda p: p.peak_bytes):
        within = [p for p in points if p.peak_bytes <= point.peak_bytes]
        table.add_row(*_point_cells(point, fastest), _ratio(within[-1].seconds, fastest.seconds) if within else NOTHING)
    some = f", {len(shown)} of them shown" if len(points) > len(shown) else ""
    head = Text(f"{counted(len(points), 'budget')}{device_words(frontier.devices)} at which the plan changes{some}")
    if knee:
        head.append(f"; with less than at the knee, {format_bytes(knee.peak_bytes)}, time rises faster than bytes fall")
    if frontier.arguments:
        head.append(f"\nheld beside them: {need_words(frontier.arguments, points[0].peak_bytes)} of the smallest")
    return [head, table, dim_legend(COLUMNS)]


@registry.figures.register(Frontier)
def figures(frontier: Frontier) -> dict[str, Callable[..., Figure]]:
    """Time against bytes."""
    return {"frontier": partial(plot_frontier, frontier)}


def _point_cells(point: Point, fastest: Point) -> list[str]:
    share = f"{point.peak_bytes / fastest.peak_bytes:.0%}" if fastest.peak_bytes else NOTHING
    return [format_bytes(point.peak_bytes), share, _ratio(point.seconds, fastest.seconds), point.policy]


def _ratio(seconds: float, fastest: float) -> str:
    """A ratio of times, if there is one: a program may take no time."""
    return f"{seconds / fastest:.2f}" if fastest else NOTHING
