"""CPUs.

XLA drops optimization barriers here, so stages are calls that it does not inline.  Its fast code wants convolutions with
channels last and the shorter side of a weight's gradient first; it works on copies of what comes otherwise.
"""

from __future__ import annotations

from ckptgrad.target.platform import Form, Isolation, Platform
from ckptgrad.target.rates import Rates

PLATFORM = Platform(
    name="cpu",
    lowered_for=("cpu",),
    device_platforms=("cpu",),
    # The order of magnitude of a few cores, with page faults on fresh memory.
    rates=Rates(2e11, 6e10, 1.5e9, 3e9, 3e10, 2e-7, 2e6),
    isolation=Isolation.CALLS,
    forms=frozenset(
        {
            Form.CHANNELS_LAST,
            Form.SHORTER_SIDE_FIRST,
            Form.AS_MATRICES,
            Form.BATCHED_AS_MATRICES,
            Form.BY_OFFSETS,
            Form.BARRIERS_AS_CALLS,
        }
    ),
    copies_operands=True,
    repeats_transcendentals=False,
    probe_options=(("xla_backend_optimization_level", 0), ("xla_llvm_disable_expensive_passes", True)),
    host_memory=True,
    quick_probes=True,
)
