"""The gradients of a script, as a table."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from ckptgrad.bytes import format_bytes
from ckptgrad.report import registry
from ckptgrad.report.tables import NOTHING, table_of
from ckptgrad.results.script_run import GradientCall, ScriptRun


@registry.parts.register(ScriptRun)
def parts(run: ScriptRun) -> list[RenderableType]:
    """A line about the script, and a row for each gradient."""
    planned = sum(not call.left for call in run.calls)
    within = "no budget" if run.budget is None else f"budget {run.budget} for each"
    how = f"; a dry run, compiled for {run.target or 'what is attached'}" if run.dry else ""
    head = Text(f"{run.script}: {planned} of {len(run.calls)} gradients planned, {within}{how}")
    legend = Text(
        "calls: how often it was asked for; predicted: of the gradient, beyond its arguments; certified: what XLA allocates "
        "for all of the program that it is in, beyond the arguments of that; stages, repeated: of its plan, and forwards "
        "that run again"
    )
    if any(call.least for call in run.calls):
        legend.append("; smallest plan: none is within the budget, and that share of what the gradient needs is the least")
    if not run.calls:
        return [Text(f"{run.script}: no gradient was asked for by jax.grad, jax.value_and_grad, flax.nnx's or Equinox's")]
    columns = ["function", "asked for at", "calls", "predicted", "certified", "stages", "repeated"]
    why = ["remarks"] if any(map(_remark, run.calls)) else []
    table = table_of(*columns, *why, left=(*columns[:2], *why), wrapped=(*columns, *why))
    for call in run.calls:
        peak = NOTHING if call.peak_bytes is None else format_bytes(call.peak_bytes)
        numbers = (str(call.stages), str(call.repeated)) if not call.left else (NOTHING, NOTHING)
        cells = (call.function, call.place, str(call.times), peak, _certified(call), *numbers)
        table.add_row(*cells, *([_remark(call)] if why else []))
    return [head, table, legend]


def _remark(call: GradientCall) -> str:
    if call.left:
        # Its first sentence: what to do instead is no matter of a table.
        return f"not planned: {call.left.partition('. ')[0]}"
    found = [f"smallest plan, {call.least}"] if call.least else []
    found += [f"predicted for {call.together} devices together"] if call.together > 1 else []
    return "; ".join(found)


def _certified(call: GradientCall) -> str:
    if call.certified_bytes is None:
        return NOTHING
    return format_bytes(call.certified_bytes) + (f" ({call.program})" if call.program else "")
