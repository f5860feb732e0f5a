"""What a compiled step takes, as a table: one row for each argument, then what it holds while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import RenderableType
from rich.text import Text

from ckptgrad.bytes import device_words, format_bytes
from ckptgrad.report import registry
from ckptgrad.report.tables import NOTHING, table_of
from ckptgrad.results.advice.advice import Advice
from ckptgrad.results.step_certificate import StepCertificate


@registry.advice.register(StepCertificate)
def advice(certificate: StepCertificate) -> Callable[[], Sequence[Advice]] | None:
    """What the plan with the highest peak suggests to do, of those inside the step."""
    highest = max(certificate.plans, key=lambda plan: plan.peak_bytes, default=None)
    return highest and (lambda: highest.advice)


@registry.parts.register(StepCertificate)
def parts(certificate: StepCertificate) -> list[RenderableType]:
    """What takes the memory, and how much of it is left."""
    whole = certificate.peak_bytes
    limit = "" if certificate.limit is None else f", of {format_bytes(certificate.limit)}"
    target = "" if certificate.target.attached else f"; compiled for {certificate.target}, which is not attached"
    head = f"{certificate.function}: {format_bytes(whole)}{device_words(certificate.devices)}{limit}{target}"
    table = table_of("", "bytes", "share", "remark", left=("", "remark"))
    for name, held, remark in certificate.rows():
        table.add_row(name, format_bytes(held), f"{held / whole:.0%}" if whole else NOTHING, remark)
    table.add_row("all", format_bytes(whole), "", "")
    notes = [_planned(k, certificate) for k in range(len(certificate.plans))]
    if certificate.donation:
        notes.append(f"what would help: {certificate.donation}")
    return [Text(head), table, *([Text("\n".join(notes))] if notes else [])]


def _planned(k: int, certificate: StepCertificate) -> str:
    plan = certificate.plans[k]
    fastest = plan.fastest_seconds
    time = f", {plan.seconds / fastest:.2f} times the fastest" if fastest else ""
    number = f" {k + 1}" if len(certificate.plans) > 1 else ""
    inside = f", {plan.recomputing_inside} backwards recompute inside" if plan.recomputing_inside else ""
    return (
        f"gradient{number}: {len(plan.program.stages)} stages, {plan.simulation.recomputations} forwards repeated{inside}, "
        f"predicted {format_bytes(plan.peak_bytes)} beyond its arguments{time}"
    )
