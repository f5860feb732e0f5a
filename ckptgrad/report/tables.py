"""Plans, frontiers, validations and rules as parts that rich can show: tables and lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ckptgrad.bytes import format_bytes
from ckptgrad.planning.schedule import Forward

if TYPE_CHECKING:
    from ckptgrad.graph.source import SourceLine
    from ckptgrad.meters.meter import Reading
    from ckptgrad.planning.frontier import Point
    from ckptgrad.results.plan import Plan
    from ckptgrad.results.validation import Row, Validation

MOST_ROWS = 40
LONGEST_PERIOD = 8  # stages in a pattern that is written once however often it repeats
NOTHING = "-"


def plan_parts(plan: Plan) -> list[RenderableType]:
    """A plan: what it costs, and what happens to each stage."""
    return [_plan_summary(plan), _stage_table(plan)]


def _plan_summary(plan: Plan) -> Table:
    program, simulation = plan.program, plan.simulation
    grid = _grid()
    budget = "none" if plan.budget is None else format_bytes(plan.budget)
    grid.add_row("policy", f"{plan.schedule.policy}, budget {budget}")
    grid.add_row(
        "predicted peak",
        f"{format_bytes(plan.peak_bytes)} beyond the arguments: {format_bytes(plan.temporary_bytes)} temporaries, "
        f"{format_bytes(program.output_bytes)} outputs, {format_bytes(program.gradient_bytes)} gradients",
    )
    fastest = sum(s.options[s.fastest].time for s in plan.costs.stages)
    ratio = f"{plan.seconds / fastest:.2f} of the fastest plan's without a budget" if fastest else NOTHING
    if plan.seconds and plan.budget is not None:
        ratio += f"; no schedule within the budget saves more than {1 - plan.least_seconds / plan.seconds:.0%} of it"
    grid.add_row("estimated time", ratio)
    if plan.found is not None:
        took = f"peak {format_bytes(plan.found.peak_bytes)}"
        if plan.peak_bytes:
            took += f" ({plan.found.peak_bytes / plan.peak_bytes - 1:+.1%})"
        if plan.found.seconds is not None and plan.seconds:
            off = plan.found.seconds / plan.seconds - 1
            took += f"; {plan.found.seconds:.3g} s a call, {plan.seconds:.3g} s estimated ({off:+.0%})"
        grid.add_row("found", took)
    grid.add_row(
        "stages",
        f"{len(program.stages)}, {len(program.kinds)} of them distinct; {simulation.forwards} forwards, "
        f"{simulation.recomputations} of them repeated",
    )
    if plan.borrowed:
        grid.add_row("borrowed rules", f"{', '.join(plan.borrowed)}: differentiated by JAX, no independent check")
    return grid


def _stage_table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("source")
    for name in ("boundary", "kept for backward", "residuals", "forwards"):
        table.add_column(name, justify="left" if name.startswith("kept") else "right", no_wrap=True)
    lines = list(_collapse(_stage_rows(plan)))
    for label, row in lines[:MOST_ROWS]:
        table.add_row(label, *row)
    if len(lines) > MOST_ROWS:
        table.add_row(f"... and {len(lines) - MOST_ROWS} rows more")
    return table


def _stage_rows(plan: Plan) -> list[tuple[str, ...]]:
    """For each stage what the table says of it, without its number."""
    kept = plan.schedule.kept
    forwards = Counter(a.stage for a in plan.schedule if isinstance(a, Forward))
    rows = []
    for i, (stage, cost) in enumerate(zip(plan.program.stages, plan.costs.stages, strict=True)):
        option = cost.options[kept[i]] if i in kept else None
        rows.append(
            (
                _place(stage.source),
                format_bytes(cost.boundary_bytes),
                option.name if option else NOTHING,
                format_bytes(option.residual_bytes) if option else NOTHING,
                str(forwards[i]),
            )
        )
    return rows


def _place(source: SourceLine | None) -> str:
    return NOTHING if source is None else source.brief


def _collapse(rows: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Rows with their labels; a pattern of up to LONGEST_PERIOD rows that repeats is given once.

    The rows of a pattern are labelled by their first stage, the step and their last stage: "2, 4 .. 16".
    """
    start = 0
    while start < len(rows):
        period, times = max(
            ((p, _repeats(rows, start, p)) for p in range(1, LONGEST_PERIOD + 1)),
            key=lambda found: ((found[1] - 1) * found[0], -found[0]),
        )
        if times == 1:
            period = 1
        for k in range(start, start + period):
            yield _label(k, period, times), rows[k]
        start += period * times


def _repeats(rows: Sequence[tuple[str, ...]], start: int, period: int) -> int:
    """How often the `period` rows from `start` on follow each other."""
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


MOST_POINTS = 24


def frontier_parts(points: Sequence[Point], others: Sequence[Point]) -> list[RenderableType]:
    """A frontier: points spread over it, then the policies and what the frontier needs for the same bytes."""
    fastest = points[-1]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("peak", "of fastest's", "time", "policy", "optimal there"):
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    step = max(1, -(-len(points) // MOST_POINTS))
    shown = [*points[:-1:step], fastest]
    for point in shown:
        table.add_row(*_point_cells(point, fastest), "")
    for point in sorted(others, key=lambda p: p.peak_bytes):
        within = [p for p in points if p.peak_bytes <= point.peak_bytes]
        table.add_row(*_point_cells(point, fastest), _ratio(within[-1].seconds, fastest.seconds) if within else NOTHING)
    left_out = f" ({len(points) - len(shown)} more)" if len(points) > len(shown) else ""
    head = Text(
        f"{len(points)} budgets at which the plan changes{left_out}; time against the fastest plan's, estimated; in the "
        f"last column that of the optimal plan in as many bytes"
    )
    return [head, table]


def _point_cells(point: Point, fastest: Point) -> list[str]:
    share = f"{point.peak_bytes / fastest.peak_bytes:.0%}" if fastest.peak_bytes else NOTHING
    return [format_bytes(point.peak_bytes), share, _ratio(point.seconds, fastest.seconds), point.policy]


def _ratio(seconds: float, fastest: float) -> str:
    """Of what takes no time there is none."""
    return f"{seconds / fastest:.2f}" if fastest else NOTHING


def validation_parts(validation: Validation) -> list[RenderableType]:
    """A validation: a row each for jax.grad, jax.checkpoint and the policies, then what is wrong or to be noted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    meters = [m for m in dict.fromkeys(name for row in validation.rows for name in row.readings) if m != "xla"]
    for name in ("predicted", "certified", "temporaries", *meters, "time", "gradient differs by"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in validation.rows:
        table.add_row(row.name, *_cells(row, meters))
    budget = "no budget" if validation.budget is None else f"budget {format_bytes(validation.budget)}"
    head = Text(
        f"{validation.function}: peak bytes beyond the arguments, {budget}; time against jax.grad, "
        f"median of {validation.repeats}"
    )
    verdict = "passed" if validation.passed else "FAILED"
    notes = [f"{verdict}: {text}" for text in validation.row_failures or [_agreement(validation)]]
    notes += validation.located
    if validation.borrowed:
        notes.append(f"borrowed from JAX, so not checked independently: {', '.join(validation.borrowed)}")
    reasons = {(m, r.reason): row.name for row in validation.rows for m, r in row.readings.items() if r.bytes is None}
    notes += [f"{meter} n/a ({name}): {reason}" for (meter, reason), name in reasons.items()]
    return [head, table, Text("\n".join(notes))]


def _agreement(validation: Validation) -> str:
    binding = "" if validation.budget is None else ", certified peaks are within the budget"
    wrong = "" if validation.passed else "; custom rules that both use are wrong"
    return f"gradients agree with jax.grad's{binding}{wrong}"


def _cells(row: Row, meters: Sequence[str]) -> list[str]:
    if not row.feasible:
        least = "" if row.smallest_peak_bytes is None else f", needs {format_bytes(row.smallest_peak_bytes)}"
        return [NOTHING] * (4 + len(meters)) + [f"{row.reason}{least}"]
    return [
        _bytes(row.predicted_peak_bytes),
        _reading(row.certified),
        _bytes(row.certified_temporary_bytes),
        *(_reading(row.readings.get(name)) for name in meters),
        NOTHING if row.time_ratio is None else f"{row.time_ratio:.2f}",
        NOTHING if row.gradient is None else _difference(row.gradient.relative, row.gradient.bitwise),
    ]


def _bytes(n: int | None) -> str:
    return NOTHING if n is None else format_bytes(n)


def _reading(reading: Reading | None) -> str:
    if reading is None:
        return NOTHING
    return "n/a" if reading.bytes is None else format_bytes(reading.bytes)


def _difference(relative: float, bitwise: bool) -> str:
    return "0 (bit for bit)" if bitwise else f"{relative:.1e}"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    return grid
