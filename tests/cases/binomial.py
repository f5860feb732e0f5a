"""The numbers of binomial checkpointing that are published."""

from __future__ import annotations

# Stages, checkpoints, and the forwards beyond the one of each stage.
LISTED = [
    (10, 3, 15),
    (50, 7, 105),
    (64, 4, 200),
    (100, 10, 222),
    (128, 16, 238),
    (256, 10, 690),
    (512, 16, 1365),
    (1000, 10, 3636),
    (1000, 25, 2622),
    (10000, 10, 57624),
    (10000, 25, 36346),
]
