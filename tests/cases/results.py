"""Results put together by hand, whose figures a test can count."""

from __future__ import annotations

from ckptgrad.graph.source import SourceLine
from ckptgrad.meters.buffers import KINDS, Buffer
from ckptgrad.meters.meter import Reading
from ckptgrad.planning import ChainCosts
from ckptgrad.planning.frontier import Point
from ckptgrad.results.coverage import CoverageTable
from ckptgrad.results.frontier import Frontier
from ckptgrad.results.lives import Life
from ckptgrad.results.predicted import Moment
from ckptgrad.results.timeline import Timeline
from ckptgrad.results.validation import Difference, Row, Validation
from ckptgrad.rules.coverage import Coverage
from ckptgrad.target.target import described

KIB = 1024
LINE = SourceLine("models/model.py", 12, "loss.<locals>.layer")


def moment(action: str, start: float, end: float, inside: tuple[tuple[float, int], ...] = (), **held: int) -> Moment:
    """An action, and the KiB that it holds by kind."""
    stage = int(action[1:].split(":")[0])
    return Moment(action, stage, start, end, {kind: KIB * held.get(kind, 0) for kind in KINDS}, inside)


# Two stages: forward, forward, backward, backward; the first backward holds the most.
TIMELINE = Timeline(
    "loss",
    (
        moment("F0:1", 0.0, 1.0, boundaries=4, residuals=2),
        moment("F1:0", 1.0, 2.0, boundaries=4, residuals=4),
        moment("B1", 2.0, 4.0, boundaries=4, residuals=4, gradients=2, transients=6),
        moment("B0", 4.0, 5.0, boundaries=0, residuals=2, gradients=2, results=4),
    ),
    (
        Life(Buffer("results", 4 * KIB, "gradient of an argument", (8, 128), "float32"), 3, 3),
        Life(Buffer("boundaries", 4 * KIB, "tanh", (8, 128), "float32", 0, LINE), 0, 2),
        *(
            Life(Buffer("residuals", 2 * KIB, "dot_general", (8, 64), "float32", stage, LINE), stage, 3 - stage)
            for stage in (0, 1)
        ),
        Life(Buffer("gradients", 2 * KIB, "cotangent of boundary 1", (8, 64), "float32", 1), 2, 3),
        Life(Buffer("transients", 6 * KIB, "inside the backward", stage=1, source=LINE), 2, 2),
    ),
    budget=20 * KIB,
    readings={
        "xla": Reading(18 * KIB, curve=((0.0, 0), (0.5, 18 * KIB), (1.0, 4 * KIB))),
        "resident": Reading(None, "it was not asked for"),
    },
)

VALIDATION = Validation(
    "loss",
    (
        Row("jax.grad", None, {"xla": Reading(40 * KIB)}, 30 * KIB, 0.010, 1.0, Difference(), Difference()),
        Row(
            "optimal",
            18 * KIB,
            {"xla": Reading(20 * KIB), "resident": Reading(None, "it was not asked for")},
            10 * KIB,
            0.012,
            1.2,
            Difference(2e-6, 0.02, "[0]", "float32", False),
            Difference(),
        ),
        Row("sqrt", reason="cannot meet the budget", smallest_peak_bytes=33 * KIB),
    ),
    budget=24 * KIB,
    repeats=3,
    tolerance=None,
)

FRONTIER = Frontier(
    (Point(100 * KIB, 3.0), Point(200 * KIB, 2.0), Point(400 * KIB, 1.0)),
    (Point(300 * KIB, 2.5, "sqrt"), Point(50 * KIB, 9.0, "revolve(2)")),
    ChainCosts.uniform(4),
    described("cpu"),
)

COVERAGE = CoverageTable(
    (
        Coverage("sin", "differentiated", "a derivative for each argument", True),
        Coverage("cos", "differentiated", "a derivative for each argument", True),
        Coverage("floor", "zero", "no derivative flows", True),
        Coverage("mine", "missing", "register a rule with ckptgrad.bprop_rule", False),
    )
)
