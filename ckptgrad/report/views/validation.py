"""A validation as a table: one row for each reference and policy, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from ckptgrad.bytes import device_words, format_bytes
from ckptgrad.graph.naming import counted
from ckptgrad.meters.meter import Reading, meters
from ckptgrad.report import registry
from ckptgrad.report.legend import dim_legend
from ckptgrad.report.plots.validation import plot_validation
from ckptgrad.report.tables import NOTHING, budget_words, need_words, table_of
from ckptgrad.results.advice.advice import Advice
from ckptgrad.results.validation import Row, Validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COLUMNS = {
    "predicted": "the peak that the plan predicts",
    "certified": "the peak by XLA's buffer assignment of the program",
    "temporaries": "of that what is neither value nor gradient",
    "time": "of a call, in times that of jax.grad",
    "gradient differs by": "the largest difference from jax.grad's, relative to a leaf's largest entry",
}


@registry.parts.register(Validation)
def parts(validation: Validation) -> list[RenderableType]:
    """One row each for jax.grad, jax.checkpoint and the policies, then what is wrong or worth noting."""
    meters = [m for m in dict.fromkeys(name for row in validation.rows for name in row.readings) if m != "xla"]
    columns = ("", "predicted", "certified", "temporaries", *meters, "time", "gradient differs by")
    ran = validation.repeats > 0
    if not ran:
        columns = ("", "predicted", "certified", "temporaries", *meters)
    table = table_of(*columns, left=("",))
    for row in validation.rows:
        table.add_row(row.name, *(_cells(row, meters, ran) if row.feasible else _reason(row, len(columns) - 1)))
    budget = budget_words(validation.budget, validation.least, validation.budget_source)
    head = f"{validation.function}: peak bytes{device_words(validation.devices)} beyond the arguments, {budget}; "
    head += (
        f"time relative to jax.grad, median of {counted(validation.repeats, 'round')}"
        if ran
        else f"compiled for {validation.target}, which is not attached, and not run"
    )
    if validation.arguments:
        certified = [row.certified.bytes for row in validation.rows if row.certified and row.certified.bytes is not None]
        head += f"\nheld beside them: {need_words(validation.arguments, max(certified, default=0))} of the largest"
    verdict = ("passed" if ran else "certified") if validation.passed else "FAILED"
    notes = [f"{verdict}: {text}" for text in validation.row_failures or [_agreement(validation)]]
    wrong: list[str] = []
    if not validation.passed:
        wrong, notes = [*notes, *validation.located], []
    notes += [_inexact(row) for row in validation.rows if row.inexact]
    if validation.borrowed:
        notes.append(f"borrowed from JAX, so not checked independently: {', '.join(validation.borrowed)}")
    reasons = {(m, r.reason): row.name for row in validation.rows for m, r in row.readings.items() if r.bytes is None}
    notes += [f"{meter} n/a ({name}): {reason}" for (meter, reason), name in reasons.items()]
    top = Text.assemble(("\n".join(wrong), "bold red"), f"\n{head}") if wrong else Text(head)
    return [top, table, dim_legend(_columns(columns[1:])), *([Text("\n".join(notes))] if notes else [])]


def _columns(names: Sequence[str]) -> dict[str, str]:
    """What the columns mean; meters say what they see."""
    known = {name: meter.sees for name, meter in meters().items()}
    return {name: meaning for name in names if (meaning := COLUMNS.get(name, known.get(name, "")))}


@registry.advice.register(Validation)
def advice(validation: Validation) -> Callable[[], Sequence[Advice]] | None:
    """What the plan of its first policy suggests to do; nothing where something is wrong."""
    return validation.advise if validation.passed else None


@registry.figures.register(Validation)
def figures(validation: Validation) -> dict[str, Callable[..., Figure]]:
    """Peaks and times of the rows."""
    return {"validation": partial(plot_validation, validation)}


def _agreement(validation: Validation) -> str:
    if not validation.repeats:
        kept = "" if validation.budget is None else "peaks are within the budget; "
        return f"{kept}nothing was run, so no gradient was compared"
    binding = "" if validation.budget is None else ", certified peaks are within the budget"
    binding = f"{', but for what is inexact' if any(row.inexact for row in validation.rows) else ''}{binding}"
    wrong = "" if validation.passed else "; custom rules that both use are wrong"
    return f"gradients agree with jax.grad's{binding}{wrong}"


def _inexact(row: Row) -> str:
    """How far off a gradient is that was made from inexact values."""
    kept = f"inexact: {row.name} keeps values as {', '.join(row.inexact)}"
    return (
        kept if row.gradient is None else f"{kept}; its gradient is off by {row.gradient.relative:.1e} of its largest entry"
    )


def _reason(row: Row, cells: int) -> list[str]:
    least = "" if row.smallest_peak_bytes is None else f", needs {format_bytes(row.smallest_peak_bytes)}"
    return [NOTHING] * (cells - 1) + [f"{row.reason}{least}"]


def _cells(row: Row, meters: Sequence[str], ran: bool) -> list[str]:
    bytes_held = [
        _bytes(row.predicted_peak_bytes),
        _reading(row.certified),
        _bytes(row.certified_temporary_bytes),
        *(_reading(row.readings.get(name)) for name in meters),
    ]
    if not ran:
        return bytes_held
    return [
        *bytes_held,
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
