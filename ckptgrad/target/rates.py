"""The rates of a device, by which seconds are estimated."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rates:
    """Rates of a device, for estimates.

    Attributes:
        product_rate: floating point operations per second in products of float32, in the precision that JAX multiplies them
            with unless it is told otherwise.
        element_rate: elementwise operations per second.
        transcendental_rate: exp, tanh and the like per second.
        write_rate: bytes per second written to fresh memory, page faults included.
        read_rate: bytes per second read.
        launch: seconds to start one operation inside a loop, or one kernel.
        cache: bytes that are near; what a loop writes and reads again beyond these goes to memory.
        half_rate: as `product_rate`, of elements of 16 bits; None: the same.
        exact_rate: of float32 in all its bits; None: the same.
        double_rate: of float64; None: the same.
        reduction_rate: elements per second that are folded; None: as elementwise operations.
        clock: cycles per second, in which some compilers state what they expect.
    """

    product_rate: float
    element_rate: float
    transcendental_rate: float
    write_rate: float
    read_rate: float
    launch: float = 0.0
    cache: float = float("inf")
    half_rate: float | None = None
    exact_rate: float | None = None
    double_rate: float | None = None
    # Not in words: what is read from compiled programs does not depend on it.
    reduction_rate: float | None = field(default=None, repr=False)
    clock: float = 1e9

    def products(self, bits: int, *, exact: bool = False) -> float:
        """Floating point operations per second in products of elements of `bits` bits.

        Args:
            bits: of one element, or of the real part of a complex one.
            exact: whether float32 is multiplied in all its bits.
        """
        special = self.half_rate if bits <= 16 else self.double_rate if bits == 64 else self.exact_rate if exact else None
        return special or self.product_rate
