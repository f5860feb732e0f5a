"""What sets the peak of a plan: which stage, what kinds of bytes, which arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ckptgrad.results.advice.advice import Sentence, adviser
from ckptgrad.results.at_peak import MOST_NAMED, named_arrays

if TYPE_CHECKING:
    from ckptgrad.results.plan import Plan


@adviser(order=1)
def advise(plan: Plan) -> Iterator[Sentence]:
    """The action at the peak, the bytes by kind, the largest arrays."""
    peak = plan.at_peak
    arrays = [b for b in (*peak.inside, *peak.held) if b.shape is not None]
    largest = named_arrays(arrays, peak.place)[:MOST_NAMED]
    text = f"the peak is set by {peak.doing}: {peak.split}"
    yield (
        f"{text}; the largest arrays: {', '.join(largest)}" if largest else text,
        {
            "action": str(peak.action),
            "stage": peak.stage,
            "bytes": peak.bytes,
            "by_kind": dict(peak.by_kind),
            "largest": largest,
        },
    )
