"""Published figures of TPUs, by JAX's names of their models: Google Cloud's documentation of each version."""

from __future__ import annotations

from dataclasses import dataclass

from ckptgrad.target.chips.chip import Chip
from ckptgrad.target.links import Links
from ckptgrad.target.rates import Rates


@dataclass(frozen=True)
class Tpu:
    """One chip, which JAX may see as two devices.

    Attributes:
        memory: bytes.
        products: floating point operations per second in products of bfloat16, in which float32 is multiplied too.
        bandwidth: bytes per second of its memory.
        multipliers: multiply-adds per cycle of its matrix units.
        port: bytes per second of one port to a neighbour, in a direction.
    """

    memory: int
    products: float
    bandwidth: float
    multipliers: int
    port: float

    @property
    def clock(self) -> float:
        """Cycles per second at which the matrix units do what is published of them."""
        return self.products / (2 * self.multipliers)

    def device(self, kind: str, devices: int) -> Chip:
        """One of the `devices` of a chip.

        Arithmetic outside products is taken as a fortieth of that in them, an eighth of this for transcendental functions:
        roughly the ratio of the vector units to the matrix units of a v4. Sums and maxima are as their compiler counts those
        of bfloat16 for a v5e, and so are the first and last blocks of a fusion that are moved beside nothing: of a turn of
        three GELU layers 66 fusions lose 166 microseconds. Full float32 takes six products of bfloat16.
        """
        products, bandwidth = self.products / devices, self.bandwidth / devices
        rates = Rates(
            products,
            products / 40,
            products / 320,
            bandwidth,
            bandwidth,
            2.5e-6,
            1e8,
            exact_rate=products / 6,
            reduction_rate=products / 1850,
            clock=self.clock,
        )
        # A ring along an axis of the torus receives from both neighbours.
        return Chip(kind, self.memory // devices, rates, links=Links(2 * self.port))


TPUS = {
    "TPU v2": Tpu(16 << 30, 46e12, 700e9, 2 << 14, 62e9),
    "TPU v3": Tpu(32 << 30, 123e12, 900e9, 4 << 14, 70e9),
    "TPU v4": Tpu(32 << 30, 275e12, 1228e9, 8 << 14, 50e9),
    "TPU v5 lite": Tpu(16 << 30, 197e12, 819e9, 4 << 14, 50e9),
    "TPU v5": Tpu(95 << 30, 459e12, 2765e9, 8 << 14, 100e9),
    "TPU v6 lite": Tpu(32 << 30, 918e12, 1640e9, 4 << 16, 100e9),
    "TPU7x": Tpu(192 << 30, 2307e12, 7380e9, 8 << 16, 100e9),
}
