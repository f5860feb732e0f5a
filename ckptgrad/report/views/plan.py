"""A plan as tables: what it costs, and what happens to each stage."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rich.console import RenderableType
from rich.table import Table

from ckptgrad.bytes import device_words, format_bytes
from ckptgrad.chain.layers import ranged
from ckptgrad.graph.naming import counted
from ckptgrad.planning.schedule import Forward
from ckptgrad.report import registry
from ckptgrad.report.advice import advice_parts
from ckptgrad.report.legend import dim_legend, kept_words
from ckptgrad.report.plots.costs import plot_costs
from ckptgrad.report.plots.schedule import plot_schedule
from ckptgrad.report.schedule import schedule_chart
from ckptgrad.report.series.chunks import chunk_words
from ckptgrad.report.tables import NOTHING, budget_words, need_words, table_of, two_columns
from ckptgrad.results.advice.advice import Advice
from ckptgrad.results.outcomes import Outcome
from ckptgrad.results.plan import Plan
from ckptgrad.target.target import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ckptgrad.graph.source import SourceLine

MOST_ROWS = 40
LONGEST_PERIOD = 8  # stages in a pattern that is written only once however often it repeats


@registry.parts.register(Plan)
def parts(plan: Plan) -> list[RenderableType]:
    """What a plan costs, what happens to each stage, what the columns mean, and what the plan suggests to do."""
    return [_summary(plan), _stage_table(plan), dim_legend(_legend(plan)), *advice_parts(plan.advice)]


@registry.advice.register(Plan)
def advice(plan: Plan) -> Callable[[], Sequence[Advice]]:
    """What the plan suggests to do."""
    return lambda: plan.advice


@registry.figures.register(Plan)
def figures(plan: Plan) -> dict[str, Callable[..., Figure]]:
    """The schedule, and the costs of the stages."""
    return {"schedule": partial(plot_schedule, plan), "stage costs": partial(plot_costs, plan)}


@registry.diagram.register(Plan)
def diagram(plan: Plan) -> list[RenderableType]:
    """The schedule, and which of its stages run over chunks."""
    return [schedule_chart(plan.schedule, plan.costs, chunk_words(plan.chunks))]


def _summary(plan: Plan) -> Table:
    program, simulation = plan.program, plan.simulation
    grid = two_columns()
    if program.target.devices and not program.target.attached:
        grid.add_row("compiled for", _target_words(program.target))
    grid.add_row("policy", f"{plan.schedule.policy}, {budget_words(plan.budget, source=plan.budget_source)}")
    if plan.microbatches is not None:
        grid.add_row("microbatches", f"{plan.microbatches}, one after the other; what follows is of one of them")
    grid.add_row(
        "predicted peak",
        f"{format_bytes(plan.peak_bytes)}{device_words(program.devices)} beyond the arguments: "
        f"{format_bytes(plan.temporary_bytes)} temporaries, "
        f"{format_bytes(program.output_bytes)} outputs, {format_bytes(program.gradient_bytes)} gradients",
    )
    grid.add_row("arguments", need_words(program.argument_bytes, plan.peak_bytes))
    fastest = plan.fastest_seconds
    time = f"{plan.seconds / fastest:.2f} times that of the fastest plan without a budget" if fastest else NOTHING
    if plan.seconds and plan.budget is not None:
        saved = f"{max(0.0, 1 - plan.least_seconds / plan.seconds):.0%}"
        most = "is faster" if saved == "0%" else f"can save more than {saved} of it"
        time += f"; no schedule within the budget {most}"
    grid.add_row("estimated time", time)
    if plan.knee is not None and fastest:
        grid.add_row(
            "knee",
            f"with {format_bytes(plan.knee.peak_bytes)}, where time begins to rise faster than bytes fall, it is "
            f"{plan.knee.seconds / fastest:.2f} times",
        )
    if plan.found is not None:
        grid.add_row("observed", _observed(plan, plan.found))
    grid.add_row(
        "stages",
        f"{len(program.stages)}, {len(program.kinds)} of them distinct; {counted(simulation.forwards, 'forward')}, "
        f"{simulation.recomputations} of them repeated",
    )
    if plan.tier_rates:
        grid.add_row("tiers", _tier_words(plan))
    if plan.chunks:
        grid.add_row("chunks", "; ".join(chunk_words(plan.chunks)))
    inside = plan.recomputing_inside
    if inside:
        grid.add_row(
            "inside stages",
            f"{inside} of {len(program.stages)} backwards compute again what their forwards did not keep",
        )
    if not plan.fenced:
        unsure = "" if plan.is_predicted else "; predictions are for stages that are not"
        grid.add_row("fences", f"none: stages are fused with each other{unsure}")
    elif plan.called:
        grid.add_row("fences", "calls that are not inlined: the compiler moves what runs again past barriers")
    elif plan.compiled_open and plan.opened_bytes is not None:
        grid.add_row(
            "without fences",
            f"{format_bytes(plan.opened_bytes)}: without a budget .compile leaves stages open, as jax.grad does",
        )
    if not plan.is_exact:
        grid.add_row("gradient", _inexact_words(plan))
    if plan.borrowed:
        grid.add_row("borrowed rules", f"{', '.join(plan.borrowed)}: differentiated by JAX, without an independent check")
    return grid


def _tier_words(plan: Plan) -> str:
    """What is sent, and how fast its tiers are taken to be."""
    tiers = (
        f"{tier} at {format_bytes(int(rates.put))} a second there and {format_bytes(int(rates.get))} back ({rates.source})"
        for tier, rates in plan.tier_rates.items()
    )
    sent = plan.schedule.sent
    return f"{sent} {'boundary' if sent == 1 else 'boundaries'} sent beside computation; {', '.join(tiers)}"


def _inexact_words(plan: Plan) -> str:
    """How far off the gradient is that was made from inexact values; to measure it in a plan would be to run it."""
    error = None if plan.found is None else plan.found.gradient_error
    measured = "run cg.validate with these encodings to measure by how much"
    if error is not None:
        measured = f"by {error:.1e} of its largest entry, measured by cg.validate"
    return f"inexact, as values are kept as {', '.join(plan.encodings)}: {measured}"


def _target_words(target: Target) -> str:
    """A target that is not here, and the options of its compiler."""
    options = ", ".join(f"{name}={value}" for name, value in target.compiler_options)
    return f"{target}, which is not attached" + (f"; {options}" if options else "")


def _observed(plan: Plan, outcome: Outcome) -> str:
    """What a plan took, and how far off its predictions were."""
    text = f"peak {format_bytes(outcome.peak_bytes)}"
    if plan.peak_bytes:
        text += f" ({outcome.peak_bytes / plan.peak_bytes - 1:+.1%})"
    if outcome.seconds is not None and plan.seconds:
        error = outcome.seconds / plan.seconds - 1
        text += f"; {outcome.seconds:.3g} s per call, {plan.seconds:.3g} s estimated ({error:+.0%})"
    return text


def _stage_table(plan: Plan) -> Table:
    columns = ("stage", "source", "boundary", "kept for backward", "residuals", "forwards")
    table = table_of(*columns, left=("stage", "source", "kept for backward"), wrapped=("source",))
    lines = list(_collapse(_stage_rows(plan)))
    for label, row in lines[:MOST_ROWS]:
        table.add_row(label, *row)
    if len(lines) > MOST_ROWS:
        table.add_row(f"... and {len(lines) - MOST_ROWS} more rows")
    return table


def _legend(plan: Plan) -> dict[str, str]:
    """What the columns of the table of stages mean, and the words in them that occur."""
    words = kept_words({plan.costs.stages[i].options[k].name for i, k in plan.schedule.kept.items()})
    columns = {
        "boundary": "what the stage passes to the next one" + _crossing_words(plan),
        "kept for backward": f"what its forward keeps beside that ({words})" if words else "",
        "residuals": "the bytes of what is kept, boundaries not counted twice",
        "forwards": "how often it runs forward",
    }
    return {name: meaning for name, meaning in columns.items() if meaning}


def _crossing_words(plan: Plan) -> str:
    """What is said of values that later stages read too, such as the skips of a U-Net; empty where there are none."""
    crossing = plan.target.total_bytes(plan.program.held)
    if not crossing:
        return ""
    return f"; what later stages read as well, {format_bytes(crossing)}, is counted once, not in this column"


class _Row(NamedTuple):
    """What the table says about a stage, without the stage's number; rows are alike if they differ in numbers of layers."""

    place: SourceLine | None
    cells: tuple[str, ...]

    @property
    def pattern(self) -> tuple[object, ...]:
        return self.place, re.sub(r"\d+", "0", self.place.scope if self.place else ""), self.cells


def _stage_rows(plan: Plan) -> list[_Row]:
    kept = plan.schedule.kept
    forwards = Counter(a.stage for a in plan.schedule if isinstance(a, Forward))
    rows = []
    for i, (place, cost) in enumerate(zip(plan.program.places, plan.costs.stages, strict=True)):
        option = cost.options[kept[i]] if i in kept else None
        cells = (
            format_bytes(cost.boundary_bytes),
            option.name if option else NOTHING,
            format_bytes(option.residual_bytes) if option else NOTHING,
            str(forwards[i]),
        )
        rows.append(_Row(place, cells))
    return rows


def place_of(places: Sequence[SourceLine | None]) -> str:
    """Where stages with one line come from, with the layers of all of them."""
    if places[0] is None:
        return NOTHING
    return replace(places[0], scope=ranged([place.scope for place in places if place])).brief


def _collapse(rows: Sequence[_Row]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Rows with their labels; a pattern of up to LONGEST_PERIOD rows that repeats is given only once.

    The rows of a pattern are labelled with their first stage, the next one and the last one: "2, 4 .. 16".
    """
    patterns = [row.pattern for row in rows]
    start = 0
    while start < len(rows):
        period, times = max(
            ((p, _repeats(patterns, start, p)) for p in range(1, LONGEST_PERIOD + 1)),
            key=lambda pattern: ((pattern[1] - 1) * pattern[0], -pattern[0]),
        )
        if times == 1:
            period = 1
        for k in range(start, start + period):
            alike = rows[k : start + period * times : period]
            yield _label(k, period, times), (place_of([row.place for row in alike]), *rows[k].cells)
        start += period * times


def _repeats(rows: Sequence[tuple[object, ...]], start: int, period: int) -> int:
    """How many times in a row the `period` rows from `start` on occur."""
    times, pattern = 1, rows[start : start + period]
    while rows[start + times * period : start + (times + 1) * period] == pattern:
        times += 1
    return times


def _label(first: int, step: int, times: int) -> str:
    if times == 1:
        return str(first)
    last = first + step * (times - 1)
    if times == 2:
        return f"{first}, {last}"
    return f"{first} .. {last}" if step == 1 else f"{first}, {first + step} .. {last}"
