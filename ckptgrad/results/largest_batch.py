"""The largest batch that fits, with the sizes that were tried."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ckptgrad.results.shown import Shown
from ckptgrad.results.step_certificate import StepCertificate


@dataclass(frozen=True)
class TriedSize:
    """A size of batch that was compiled.

    Attributes:
        size: of the batch.
        fits: whether the step is within the memory.
        bytes: certified: of a step that fits what it takes; of one that does not, the fewest that were found.
        argument_bytes: of its arguments alone.
    """

    size: int
    fits: bool
    bytes: int
    argument_bytes: int


@dataclass(frozen=True, repr=False)
class LargestBatch(Shown):
    """The largest batch with which a step is within its memory.

    Attributes:
        size: of the batch.
        certificate: of the step at that size.
        tried: the sizes that were compiled, ascending.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> found = cg.largest_batch(lambda size: (jnp.ones(size),), lambda x: 2 * x, memory="8KiB")
        >>> isinstance(found, cg.LargestBatch), found.size  # 4 bytes in and 4 bytes out for each
        (True, 1024)
    """

    size: int
    certificate: StepCertificate
    tried: tuple[TriedSize, ...]

    @property
    def is_monotone(self) -> bool:
        """Whether larger sizes took more wherever that was seen; if not, a larger one that was not tried may fit too."""
        failed = [t.bytes for t in self.tried if not t.fits]
        fits = [t.fits for t in self.tried]
        ascending = all(a <= b for values in (failed, [t.argument_bytes for t in self.tried]) for a, b in pairwise(values))
        return ascending and fits == sorted(fits, reverse=True)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "size": self.size,
            "monotone": self.is_monotone,
            "certificate": self.certificate.to_dict(),
            "tried": [{"size": t.size, "fits": t.fits, "bytes": t.bytes} for t in self.tried],
        }
