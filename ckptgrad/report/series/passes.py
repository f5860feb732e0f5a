"""What runs when: forwards, repeated forwards and backwards, in the order of a timeline."""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.results.predicted import Moment

PASSES = ("forward", "repeated forward", "backward")


def passes(moments: Sequence[Moment]) -> list[str]:
    """For each moment which of PASSES it is; "" for what takes no time, such as freeing."""
    found, seen = list[str](), set[int]()
    for moment in moments:
        if moment.place is None and moment.action[0] not in "FB":
            found.append("")
        elif moment.action.startswith("F"):
            found.append(PASSES[moment.stage in seen])
            seen.add(moment.stage)
        else:
            found.append(PASSES[2])
    return found
