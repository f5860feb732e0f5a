"""What each stage costs: bytes that are kept or briefly needed, and seconds."""

from __future__ import annotations

from dataclasses import dataclass

from ckptgrad.planning.schedule import Forward
from ckptgrad.results.plan import Plan


@dataclass(frozen=True)
class CostSeries:
    """Stacked bars, one for each stage.

    Attributes:
        bytes: by kind of buffer, for each stage.
        seconds: estimated, by what runs, for each stage.
    """

    bytes: dict[str, list[int]]
    seconds: dict[str, list[float]]


def cost_series(plan: Plan) -> CostSeries:
    """The bars of a plan."""
    kept, stages = plan.schedule.kept, plan.costs.stages
    options = [s.options[kept[i]] if i in kept else s.options[-1] for i, s in enumerate(stages)]
    first, repeated = [0.0 for _ in stages], [0.0 for _ in stages]
    for action in plan.schedule:
        if isinstance(action, Forward):
            bars = repeated if first[action.stage] else first
            bars[action.stage] += stages[action.stage].forward_seconds(action.keep, action.output)
    return CostSeries(
        {
            "boundaries": [s.boundary_bytes for s in stages],
            "residuals": [o.residual_bytes for o in options],
            "transients": [max(o.forward_transient, o.backward_transient, 0) for o in options],
        },
        {"forward": first, "repeated forward": repeated, "backward": [o.backward_time for o in options]},
    )
