"""The gradients of a script: the predicted peak of each that was planned."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ckptgrad.bytes import format_bytes
from ckptgrad.report import registry
from ckptgrad.report.interactive.bars import bars
from ckptgrad.report.interactive.looks import Drawn
from ckptgrad.report.plots.style import KIND_STYLES
from ckptgrad.report.series.units import unit_for
from ckptgrad.results.script_run import GradientCall, ScriptRun

CAPTION = "The predicted peak of each planned gradient beyond its arguments; the table says where each was asked for."


@registry.interactive.register(ScriptRun)
def interactive(run: ScriptRun) -> dict[str, Callable[[], Drawn]]:
    """Bars, if anything was planned."""
    planned = [call for call in run.calls if call.peak_bytes is not None]
    return {"peaks of gradients": partial(_drawn, planned)} if planned else {}


def _label(number: int, call: GradientCall) -> str:
    """The function alone: its line is in the table."""
    return f"{number}  {call.function.partition(' (')[0]}"


def _drawn(calls: list[GradientCall]) -> Drawn:
    sizes = [call.peak_bytes or 0 for call in calls]
    unit = unit_for(max(sizes))
    drawn = bars(
        "Peaks of gradients", [_label(k + 1, call) for k, call in enumerate(calls)],
        {"peak": [b / unit.bytes for b in sizes]}, {"peak": [format_bytes(b) for b in sizes]},
        {"peak": KIND_STYLES["boundaries"]}, stacked=True, name="calls",
    )  # fmt: skip
    drawn.yaxis.axis_label = f"peak, {unit.name}"
    return Drawn(drawn, CAPTION)
