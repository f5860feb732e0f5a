"""How far to go before the next checkpoint, decided while a loop runs.

Binomial checkpointing (Griewank and Walther 2000, Algorithm 799), as in `planning.policies.revolve`, for lengths that
are known when the program runs: the numbers of steps that c checkpoints serve with r repetitions stand in a table.
"""

from __future__ import annotations

from functools import cache
from math import comb
from typing import Any

import jax.numpy as jnp
import numpy as np

_MOST_REPETITIONS = 31
_LARGEST = 2**31 - 1


@cache
def _served(checkpoints: int) -> np.ndarray:
    """C(c + r, c), at [c, r]: the steps that c checkpoints serve when each is run r times more."""
    rows = [[min(comb(c + r, c), _LARGEST) for r in range(_MOST_REPETITIONS + 1)] for c in range(checkpoints + 1)]
    return np.array(rows, np.int32)


def advance(steps: Any, checkpoints: Any, most: int) -> Any:
    """How far to go from a checkpoint before the next is stored.

    Args:
        steps: from the checkpoint to the end, 2 at least.
        checkpoints: that may be held at once, this one counted: 1 at least.
        most: an upper limit of `checkpoints`.

    Returns:
        From 1 to steps - 1.  With more repetitions than the table knows, an even stride.
    """
    table = jnp.asarray(_served(most))
    row = table[checkpoints]
    r = jnp.sum(row < steps, dtype=jnp.int32)
    least = jnp.where(r > 1, row[jnp.maximum(r - 2, 0)], 1)
    ahead = jnp.maximum(least, steps - table[checkpoints - 1, jnp.minimum(r, _MOST_REPETITIONS)])
    ahead = jnp.where(r > _MOST_REPETITIONS, -(-steps // checkpoints), ahead)
    return jnp.clip(jnp.where(checkpoints == 1, steps - 1, ahead), 1, steps - 1)
