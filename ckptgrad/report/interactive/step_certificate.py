"""What a compiled step takes of a device, as bars beside its limit, and each of its planned gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bokeh.models import Span

from ckptgrad.bytes import format_bytes
from ckptgrad.report import registry
from ckptgrad.report.interactive.bars import bars
from ckptgrad.report.interactive.looks import Drawn
from ckptgrad.report.plots.style import BUDGET_COLOUR, KIND_STYLES
from ckptgrad.report.renderer import RENDERER
from ckptgrad.report.series.units import unit_for
from ckptgrad.results.largest_batch import LargestBatch
from ckptgrad.results.step_certificate import StepCertificate

CAPTION = "What the device holds for the step; the dashed line is the device's limit, if there is one."


@registry.interactive.register(StepCertificate)
def interactive(certificate: StepCertificate) -> dict[str, Callable[[], Drawn]]:
    """The bars, and of each planned gradient what it holds over time and how it is scheduled."""
    figures: dict[str, Callable[[], Drawn]] = {"memory of the step": partial(_drawn, certificate)}
    for k, plan in enumerate(certificate.plans):
        for result in (plan.timeline(f"gradient {k + 1}"), plan):
            figures |= {f"gradient {k + 1}: {name}": draw for name, draw in RENDERER.interactive(result).items()}
    return figures


@registry.interactive.register(LargestBatch)
def largest(found: LargestBatch) -> dict[str, Callable[[], Drawn]]:
    """Those of the step at the largest size."""
    return interactive(found.certificate)


def _drawn(certificate: StepCertificate) -> Drawn:
    rows = [(name.strip(), held) for name, held, _ in certificate.rows() if not name.startswith(" ")]
    unit = unit_for(certificate.peak_bytes)
    names = [*(name for name, _ in rows), "all"]
    sizes = [*(held for _, held in rows), certificate.peak_bytes]
    drawn = bars(
        f"Memory of {certificate.function}", names, {"bytes": [b / unit.bytes for b in sizes]},
        {"bytes": [format_bytes(b) for b in sizes]}, {"bytes": KIND_STYLES["boundaries"]}, stacked=True, name="step",
    )  # fmt: skip
    drawn.yaxis.axis_label = unit.name
    if certificate.limit is not None and certificate.limit <= 3 * certificate.peak_bytes:
        level = certificate.limit / unit.bytes
        drawn.add_layout(
            Span(location=level, dimension="width", line_color=BUDGET_COLOUR, line_dash="dotdash", line_width=2)
        )
        drawn.y_range.end = 1.1 * max(level, certificate.peak_bytes / unit.bytes)  # pyright: ignore[reportAttributeAccessIssue]
    return Drawn(drawn, CAPTION)
