"""How to bracket a product of Jacobians so that it takes the fewest multiplications.

The Jacobian of a chain of l stages with boundaries of n_0, ..., n_l numbers is J_l ... J_1.  A
Jacobian of stages i to j comes in one of three ways: the product of two Jacobians (dense, n_j n_k
n_i multiplications), a Jacobian pushed forward through further stages (one tangent per column), or
one pulled back through earlier stages (one cotangent per row); a stage's linear map costs what it
costs, without its matrix ever being formed.  Dynamic programming over the sub-chains finds the
best (Griewank and Naumann, *Accumulating Jacobians as chained sparse matrix products*, 2003;
Naumann, *Optimization of generalized Jacobian chain products without memory constraints*, 2020).
Plain forward and plain reverse mode are among the bracketings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal


@dataclass(frozen=True)
class Bracket:
    """How the Jacobian of stages `first` to `last` (0-based, inclusive) is obtained.

    Attributes:
        way: "forward" pushes the Jacobian of `right` (None: the identity) through the later
            stages; "reverse" pulls the Jacobian of `left` (None: the identity) back through the
            earlier stages; "product" multiplies the Jacobians of `left` and `right`.
        multiplications: in total, including those of `left` and `right`.
    """

    first: int
    last: int
    way: Literal["forward", "reverse", "product"]
    multiplications: int
    left: Bracket | None = None
    right: Bracket | None = None

    def __str__(self) -> str:
        """The latest stage on the left, as the product is written; > is forward, < reverse."""
        if self.way == "product":
            return f"({self.left} {self.right})"
        if self.way == "forward":
            start = self.first if self.right is None else self.right.last + 1
            through = " ".join(f"J{k}" for k in range(self.last, start - 1, -1))
            return f"({through} > {self.right or 'I'})"
        stop = self.last if self.left is None else self.left.first - 1
        through = " ".join(f"J{k}" for k in range(stop, self.first - 1, -1))
        return f"({self.left or 'I'} < {through})"


def best_bracket(sizes: Sequence[int], costs: Sequence[int]) -> Bracket:
    """The bracketing with the fewest multiplications.

    Args:
        sizes: the numbers at each boundary, n_0 to n_l.
        costs: the multiplications of one tangent (or cotangent) through each stage.
    """
    count = len(costs)
    total = [0, *accumulate(costs)]
    table: dict[tuple[int, int], Bracket] = {}
    for length in range(1, count + 1):
        for i in range(count - length + 1):
            j = i + length - 1
            whole = total[j + 1] - total[i]
            options = [
                Bracket(i, j, "forward", sizes[i] * whole),
                Bracket(i, j, "reverse", sizes[j + 1] * whole),
            ]
            for k in range(i, j):
                right, left = table[i, k], table[k + 1, j]
                dense = sizes[j + 1] * sizes[k + 1] * sizes[i]
                later, earlier = total[j + 1] - total[k + 1], total[k + 1] - total[i]
                options += [
                    Bracket(i, j, "product", left.multiplications + right.multiplications + dense, left, right),
                    Bracket(i, j, "forward", right.multiplications + sizes[i] * later, None, right),
                    Bracket(i, j, "reverse", left.multiplications + sizes[j + 1] * earlier, left),
                ]
            table[i, j] = min(options, key=lambda b: b.multiplications)
    return table[0, count - 1]
