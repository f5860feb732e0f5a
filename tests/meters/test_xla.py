"""What XLA's buffer assignment holds at its peak, by stage and line."""

from __future__ import annotations

import ckptgrad as cg
from tests.cases import tanh
from tests.cases.tanh import tanh_arguments, tanh_loss

# A batch of its own: equal stages of another test would have the lines of that one.
WIDTH, BATCH = 32, 544
WS, X = tanh_arguments(WIDTH, BATCH)


def test_what_is_alive_at_xlas_peak_has_stage_and_line():
    course = cg.timeline(tanh_loss, WS, X, policy="store_all")
    alive = course.readings["xla"].alive
    boundaries = [b for b in alive if b.kind == "boundaries"]
    assert {b.type for b in boundaries} == {f"float32[{BATCH},{WIDTH}]"}
    assert {b.stage for b in boundaries} >= {0, 1, 2, 3}
    assert all(b.source and b.source.file == tanh.__file__ and b.source.function == "tanh_loss" for b in boundaries)
