"""The roofline under the name by which loops know it."""

from __future__ import annotations

from ckptgrad.target.attached import attached
from ckptgrad.target.roofline import Roofline


class Machine(Roofline):
    """Estimates of seconds, with the rates at hand."""

    @classmethod
    def of(cls) -> Machine:
        """For the device that is attached."""
        return cls(attached())

    @property
    def write_rate(self) -> float:
        return self.rates.write_rate

    @property
    def read_rate(self) -> float:
        return self.rates.read_rate

    @property
    def launch(self) -> float:
        return self.rates.launch

    @property
    def cache(self) -> float:
        return self.rates.cache
