"""How fast devices send to each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Links:
    """The links between devices.

    Attributes:
        rate: bytes per second that a device receives in a ring of neighbours, while it sends as many.
        near: the number of devices that are joined at this rate; None: all.
        far_rate: bytes per second in a ring that goes beyond these.

    Example:
        >>> from ckptgrad.target.links import Links
        >>> links = Links(4e11, near=8, far_rate=5e10)
        >>> links.seconds(4e11, span=8), links.seconds(4e11, span=16)
        (1.0, 8.0)
    """

    rate: float
    near: int | None = None
    far_rate: float | None = None

    def seconds(self, received: float, span: int) -> float:
        """Seconds in which each device of a ring receives so many bytes.

        Args:
            received: bytes.
            span: of the devices' numbers, from the first to the last of the ring: how far apart they stand.
        """
        is_near = self.near is None or self.far_rate is None or span <= self.near
        return received / (self.rate if is_near else self.far_rate or self.rate)
