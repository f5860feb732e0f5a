"""Running over chunks, where what a stage holds inside sets the smallest peak and an axis of it is proved to be cuttable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ckptgrad.bytes import as_budget, format_bytes
from ckptgrad.chunks.candidates import cuttable
from ckptgrad.results.advice.advice import Sentence, adviser

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan

# What is held inside is worth cutting from this share of the smallest peak on.
WORTH = 0.1


@adviser(order=5)
def advise(plan: Plan) -> Iterator[Sentence]:
    """Chunks: the stage, what it holds inside, and the lengths of the axes along which entries are independent.

    A smaller budget is enough to have them, or `chunks=True` where all stages hold little inside or were to run whole.
    Nothing is said where some axes were to stay whole, as those along which stages may be cut are then others.
    """
    peak, sizes = plan.floor.at_peak, cuttable_sizes(plan)
    if sizes:
        inside = _inside(plan)
        axes = " or ".join(str(size) for size in dict.fromkeys(sizes))
        how = (
            f"with a budget below {as_budget(plan.floor.bytes)[0]} stages run over chunks, where that is smaller"
            if plan.chunk_choice.is_worth(plan.costs.largest_transient)
            else "chunks=True may lower the smallest peak"
        )
        yield (
            f"{how}: {peak.doing} holds {format_bytes(inside)} inside, and can run over chunks of an axis of {axes} "
            f"entries, which are independent",
            {"stage": peak.stage, "inside_bytes": inside, "axes": sizes},
        )


def cuttable_sizes(plan: Plan) -> list[int]:
    """Lengths of axes along which the stage that sets the smallest peak may be cut; empty for a plan over chunks already."""
    peak = plan.floor.at_peak
    if plan.program.chunked or plan.chunk_choice.whole or not peak.inside or _inside(plan) < WORTH * peak.bytes:
        return []
    kind = plan.program.stages[peak.stage].kind
    if not kind.may_be_chunked or not kind.wrt or not kind.seeds:
        return []
    return [found.size for found in cuttable(kind.graph)]


def _inside(plan: Plan) -> int:
    return sum(size for kind, size in plan.floor.at_peak.by_kind.items() if kind.startswith("inside"))
