# SciPy has no types.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The front of what to keep: bytes kept against seconds of recomputation, by parametric minimum cuts.

Each forward value that the backward needs is kept, at a price by its bytes, or made again, at the time of its
operation and with the need for what that operation reads. For one price per byte the cheapest choice is a minimum
cut: of a network in which being needed flows from the backward's reads against the direction of the graph, and is
stopped by paying for a value or for an operation's arguments being there anyway. All prices together give the lower
convex hull of the front; its corners are found by asking, between two of them, at the price at which they tie
(Eisner and Severance 1976).

Bytes and recomputation as a cut: Beaumont et al. and Rockmate (Zhao et al. 2023) solve it as an integer programme;
AOTAutograd (He and Yu 2023) cuts by bytes alone, for one fixed rule of what is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import is_view
from ckptgrad.stage.joint import Joint
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.stored import materialised

MOST_CORNERS = 7
_SOURCE, _SINK = 0, 1
_INFINITE = 1 << 30
# Where the fewest bytes are asked for, all seconds count as this part of all bytes: they choose between choices of as many.
_TIES = 1 << 14


class Choice(NamedTuple):
    """What is kept, in topological order; its bytes, and the seconds to write what would not be, and make the rest again."""

    keep: tuple[Variable, ...]
    bytes: int
    seconds: float


class KeepNetwork:
    """The network of one joint graph.

    Args:
        joint: the joint graph of the stage.
        boundary: inputs that cost their bytes to keep; other inputs cost nothing.
        roofline: the rates that tell what recomputing and keeping take.
        may_keep: which operations' results may be kept; None: all.
    """

    def __init__(
        self,
        joint: Joint,
        boundary: Collection[Variable],
        roofline: Roofline,
        may_keep: Callable[[Operation], bool] | None = None,
    ) -> None:
        self.operations = joint.forward_operations
        self.roofline = roofline
        arriving = [v for v in joint.inputs if v in boundary]
        self.values = arriving + [v for op in self.operations for v in op.outputs]
        value = {v: 2 + i for i, v in enumerate(self.values)}
        first_op = 2 + len(self.values)
        self.size = first_op + len(self.operations)
        self.maker = np.full(len(self.values), _SINK)
        self.bytes = np.array([roofline.target.bytes_of(v) for v in self.values], np.float64)
        preferred = self.bytes.copy()
        preferred[: len(arriving)] *= 1 - 1 / 64  # A neighbour may hold a boundary anyway.
        forbidden = np.zeros(len(self.values), bool)
        self.frontier = [v for v in joint.frontier if v in value]
        fixed: list[tuple[int, int]] = [(_SOURCE, value[v]) for v in self.frontier]
        outputs = {*joint.outputs}
        # What is fused into its readers unless it is kept is written for the backward alone.
        written = materialised(self.operations, [v for v in joint.outputs if isinstance(v, Variable)], roofline.target)
        fused = [v not in written and v not in arriving for v in self.values]
        self.writing = np.where(fused, self.bytes / roofline.rates.read_rate, 0.0)
        self.again = np.zeros(len(self.operations))
        for k, op in enumerate(self.operations):
            node = first_op + k
            self.again[k] = self.roofline.again(op)
            if op.effects:
                fixed.append((node, _SINK))
            fixed += [(node, value[v]) for v in set(variables_of(op.inputs)) if v in value]
            for v in op.outputs:
                i = value[v] - 2
                self.maker[i] = node
                if is_view(op):
                    # A compiler may hold what is seen through a view besides the view. Outputs are there anyway.
                    preferred[i] *= 1 - 1 / 64 if v in outputs else 1 + 1 / 64
                forbidden[i] = may_keep is not None and not op.effects and not may_keep(op)
        self.preferred = preferred
        self.forbidden = forbidden
        self.fixed = np.array(fixed, np.int32).reshape(-1, 2)
        self.first_op = first_op

    def cheapest(self, price: float) -> Choice:
        """The choice with the least seconds when each byte kept costs `price` seconds more than its traffic."""
        choice = self._cut(self.preferred * (self.roofline.keeping + price) + self.writing, self.again)
        assert choice is not None
        return choice

    def keeping_results_of(self, fixed: Callable[[Operation], bool]) -> Choice | None:
        """The fewest bytes without doing one of the `fixed` operations again; None if these may not be kept."""
        locked = np.array([fixed(op) for op in self.operations], bool)
        seconds = self.writing.sum() + self.again.sum()
        tie = self.bytes.sum() / (_TIES * seconds) if seconds else 0.0
        return self._cut(self.preferred + tie * self.writing, np.where(locked, np.inf, tie * self.again))

    def _cut(self, keeping: np.ndarray, again: np.ndarray) -> Choice | None:
        # Loaded on the first use: a quarter of a second.
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import breadth_first_order, maximum_flow

        keeping = np.where(self.forbidden, np.inf, keeping)
        prices = np.concatenate([keeping, again])
        scale = (_INFINITE // 2) / (prices[np.isfinite(prices)].sum() or 1.0)
        whole = np.where(np.isfinite(prices), np.ceil(np.where(np.isfinite(prices), prices, 0) * scale), _INFINITE)
        nodes = np.arange(2, self.size)
        rows = np.concatenate([nodes, self.fixed[:, 0]])
        columns = np.concatenate([self.maker, np.full(len(self.operations), _SINK), self.fixed[:, 1]])
        capacity = np.concatenate([whole, np.full(len(self.fixed), _INFINITE)])
        matrix = csr_array((capacity.astype(np.int64), (rows, columns)), (self.size, self.size))
        matrix.data = np.minimum(matrix.data, _INFINITE).astype(np.int32)
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
        result = maximum_flow(matrix, _SOURCE, _SINK)
        if result.flow_value >= _INFINITE:
            return None
        left = matrix - result.flow
        left.data = np.maximum(left.data, 0)
        left.eliminate_zeros()
        needed = np.zeros(self.size, bool)
        needed[breadth_first_order(left, _SOURCE, return_predecessors=False)] = True
        kept = needed[2 : self.first_op] & ~needed[self.maker]
        done_again = needed[self.first_op :]
        keep = tuple(v for v, k in zip(self.values, kept, strict=True) if k)
        seconds = float(self.again[done_again].sum() + self.writing[kept].sum())
        return Choice(keep, int(self.bytes[kept].sum()), seconds)


def front(network: KeepNetwork) -> list[Choice]:
    """Corners of the lower convex hull of seconds against bytes, from most kept to least."""
    keeping = network.roofline.keeping
    most, least = network.cheapest(0.0), network.cheapest(1e6 * keeping)
    corners = [most]

    def between(a: Choice, b: Choice) -> None:
        if len(corners) + 1 >= MOST_CORNERS or b.bytes >= a.bytes:
            return
        price = (b.seconds - a.seconds) / (a.bytes - b.bytes) - keeping
        middle = network.cheapest(max(price, 0.0))
        if middle.keep in (a.keep, b.keep) or not b.bytes < middle.bytes < a.bytes:
            return
        between(a, middle)
        corners.append(middle)
        between(middle, b)

    between(most, least)
    if least.bytes < most.bytes:
        corners.append(least)
    return corners
