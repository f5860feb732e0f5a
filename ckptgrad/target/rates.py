"""The rates of a device, by which seconds are estimated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Rates of a device, for estimates.

    Attributes:
        product_rate: floating point operations per second in products.
        element_rate: elementwise operations per second.
        transcendental_rate: exp, tanh and the like per second.
        write_rate: bytes per second written to fresh memory, page faults included.
        read_rate: bytes per second read.
        launch: seconds to start one operation inside a loop.
        cache: bytes that are near; what a loop writes and reads again beyond these goes to memory.
    """

    product_rate: float
    element_rate: float
    transcendental_rate: float
    write_rate: float
    read_rate: float
    launch: float = 0.0
    cache: float = float("inf")
