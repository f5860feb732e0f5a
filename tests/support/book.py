"""A result of the benchmark book, measured nowhere."""

from __future__ import annotations

from ckptgrad.bench.book import Result
from ckptgrad.bench.rows import row

RUN = {
    "machine": {
        "processor": "Abacus", "cores": 2, "memory_bytes": 2**33, "system": "Linux x86_64",
        "platform": "cpu", "device": "cpu", "devices": 1,
    },
    "versions": {"python": "3.12.1", "jax": "0.10.2", "torch": None},
    "commit": "0123456789abcdef",
    "date": "2026-01-02T03:04+00:00",
}  # fmt: skip
ROWS = (
    row("jax.grad", "tanh", certified_bytes=2**20, time_ratio=1.0),
    row("ours", "tanh", budget_bytes=2**19, certified_bytes=2**19, kept=True, time_ratio=1.234, note="a word"),
    row("equinox", "tanh", skipped="equinox is not installed"),
)
RESULT = Result("mine", "Mine against theirs", "What the columns mean.", RUN, False, ROWS, 12.0)
