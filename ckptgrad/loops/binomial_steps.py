"""Binomial checkpointing of the steps of a loop (Griewank and Walther 2000, Algorithm 799).

With c checkpoints, the initial state counted, and r repetitions of any step, C(c + r, c) steps can be reversed.
`first_pass` is for lengths known when a program is written (by `ckptgrad.binomial`), `advance` for those known when it runs:
there the numbers of steps stand in a table.
"""

from __future__ import annotations

from functools import cache
from math import comb
from typing import Any

import jax.numpy as jnp
import numpy as np

from ckptgrad import binomial

_MOST_REPETITIONS = 31
_LARGEST = 2**31 - 1


def first_pass(steps: int, checkpoints: int) -> list[int]:
    """The steps at whose starts the first pass stores a checkpoint."""
    starts = [0]
    while len(starts) < checkpoints and steps - starts[-1] > 1:
        starts.append(starts[-1] + binomial.advance(steps - starts[-1], checkpoints - len(starts) + 1))
    return starts


def climbed(steps: int, checkpoints: int) -> int:
    """How many steps run forward again on the way back, to get to the starts of others."""
    return binomial.extra_forwards(steps, checkpoints) - first_pass(steps, checkpoints)[-1]


@cache
def _served(checkpoints: int) -> np.ndarray:
    """C(c + r, c), at [c, r]: the steps that c checkpoints serve when each is run r times more."""
    rows = [[min(comb(c + r, c), _LARGEST) for r in range(_MOST_REPETITIONS + 1)] for c in range(checkpoints + 1)]
    return np.array(rows, np.int32)


def advance(steps: Any, checkpoints: Any, most: int) -> Any:
    """How far to go from a checkpoint before the next is stored, decided while the program runs.

    Args:
        steps: from the checkpoint to the end, at least 2.
        checkpoints: that may be held at once, this one counted: at least 1.
        most: an upper limit of `checkpoints`.

    Returns:
        From 1 to steps - 1.  With more repetitions than the table has, an even stride.
    """
    table = jnp.asarray(_served(most))
    row = table[checkpoints]
    r = jnp.sum(row < steps, dtype=jnp.int32)
    least = jnp.where(r > 1, row[jnp.maximum(r - 2, 0)], 1)
    ahead = jnp.maximum(least, steps - table[checkpoints - 1, jnp.minimum(r, _MOST_REPETITIONS)])
    ahead = jnp.where(r > _MOST_REPETITIONS, -(-steps // checkpoints), ahead)
    return jnp.clip(jnp.where(checkpoints == 1, steps - 1, ahead), 1, steps - 1)
