# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A gradient in microbatches: parts of the batch one after the other, each within the plan, gradients added up.

That is proved, not promised: the loss must be a sum or mean over the entries of an axis of the arguments (`axes.summed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.autodiff.linearity import pulled_back_linearly
from ckptgrad.autodiff.reverse import active_variables
from ckptgrad.axes.proposed import proposals
from ckptgrad.axes.summed import Summed, summed
from ckptgrad.doors.tracing import TracedChain
from ckptgrad.errors import OptionError
from ckptgrad.graph.evaluate import like_aval
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.naming import title
from ckptgrad.results.microbatches import Microbatches

# Of "auto", the most microbatches that are tried.
MOST = 64


@dataclass(frozen=True)
class Parts:
    """A call whose loss is a sum over an axis, and the number of parts in which it is computed."""

    chain: TracedChain
    loss: Summed
    count: int

    @property
    def entries(self) -> int:
        """Of a part."""
        return self.loss.found.size // self.count

    @property
    def argnums(self) -> tuple[int, ...]:
        """The positions of what is differentiated among the arguments of `part`."""
        return tuple(1 + k for k in self.chain.differentiated)

    @property
    def part(self) -> Callable[..., Any]:
        """The summand of one part: a function of its first entry and the leaves of the call."""
        return partial(_part, self.loss, self.entries)

    def described(self) -> Microbatches:
        """What is told of it."""
        target, graph = self.chain.program.target, self.chain.graph
        cut = {k: self.loss.found.sliced[v] for k, v in enumerate(graph.inputs) if v in self.loss.found.sliced}
        k = max(cut, key=lambda k: graph.inputs[k].nbytes)
        carried = sum(a.aval.size * np.dtype(_summed_in(a.aval.dtype)).itemsize for a in self._sums)
        seconds = 3 * carried * self.count / target.rates.read_rate
        return Microbatches(self.count, self.entries, cut[k], self.chain.call.names[k], carried, seconds)

    def run(self, gradient: Callable[..., tuple[Any, Sequence[Any]]], leaves: Sequence[Any]) -> tuple[Any, list[Any]]:
        """The value and the gradients of what is differentiated.

        Args:
            gradient: from the first entry of a part and the leaves to its value and gradients.
            leaves: of the call.
        """

        def step(k: Any, sums: list[Any]) -> list[Any]:
            value, gradients = gradient(k * self.entries, *leaves)
            return [s + x.astype(s.dtype) for s, x in zip(sums, (value, *gradients), strict=True)]

        zeros = [jnp.zeros(a.aval.shape, _summed_in(a.aval.dtype)) for a in self._sums]
        value, *gradients = (
            like_aval(s.astype(a.aval.dtype), a.aval)
            for s, a in zip(lax.fori_loop(0, self.count, step, zeros), self._sums, strict=True)
        )
        return value, gradients

    @property
    def _sums(self) -> list[Any]:
        graph = self.chain.graph
        return [graph.outputs[0], *(graph.inputs[k] for k in self.chain.differentiated)]


def _part(loss: Summed, entries: int, start: Any, *leaves: Any) -> Any:
    return loss.part(start, entries, leaves)


def _summed_in(dtype: Any) -> Any:
    """Sums of 16 bits and fewer are carried in float32."""
    narrow = jnp.issubdtype(dtype, np.floating) and dtype.itemsize < np.dtype(np.float32).itemsize
    return np.dtype(np.float32) if narrow else dtype


def parts_of(chain: TracedChain, count: int) -> Parts:
    """A call in so many parts.

    Raises:
        OptionError: its loss is not proved to be a sum over an axis, or no axis of which it is one can be cut so; or it
            runs on several devices.
    """
    if chain.devices > 1:
        raise OptionError(
            f"microbatches= are parts of a batch on one device, and {title(chain.call.original)} runs on {chain.devices}, "
            f"which would gather each part; give a budget, or split the batch of each device yourself, in a shard_map"
        )
    losses = sums_of(chain)
    fitting = [loss for loss in losses if loss.found.size % count == 0]
    name = title(chain.call.original)
    if fitting:
        return Parts(chain, fitting[0], count)
    if losses:
        sizes = " or ".join(str(loss.found.size) for loss in losses)
        raise OptionError(f"microbatches={count} does not divide the {sizes} entries over which {name} is a sum")
    if len(chain.graph.outputs) > 1:
        raise OptionError(
            f"microbatches= takes a function that returns its loss alone, and {name} returns more: leave out aux"
        )
    shared = next(filter(None, (_not_shared_out(chain, loss) for loss in _uncut_sums(chain))), None)
    if shared is not None:
        raise OptionError(
            f"microbatches={count}: what flows back to parameters of {name} passes a custom rule ({shared.source}) that is "
            f"not known to be linear, as where it clips gradients: of parts that is not what it makes of their sum; apply "
            f"it to the gradients afterwards, or use chunks=True"
        )
    of_itself = _differentiated_and_cut(chain)
    if of_itself is not None:
        raise OptionError(
            f"microbatches={count}: {name} is a sum over the entries of {of_itself}, which is differentiated itself: each "
            f"part of it has a part of the gradient, and there is nothing to add up; differentiate the parameters alone "
            f"(argnums), or use chunks=True"
        )
    raise OptionError(
        f"microbatches={count}: {name} is not proved to be a sum or mean over the entries of an axis of its arguments, with "
        f"nothing but a linear function of that sum after it; use chunks=True, or split the batch yourself"
    )


def counts_of(chain: TracedChain) -> list[int]:
    """The numbers of parts, more than one, that "auto" chooses from."""
    sizes = {loss.found.size for loss in sums_of(chain)}
    return sorted({n for size in sizes for n in range(2, min(size, MOST) + 1) if size % n == 0 and n & (n - 1) == 0})


def sums_of(chain: TracedChain) -> list[Summed]:
    """The axes over which the loss of a call, and so its gradient, is a sum, the best first."""
    return [loss for loss in _uncut_sums(chain) if _not_shared_out(chain, loss) is None]


def _uncut_sums(chain: TracedChain) -> Iterator[Summed]:
    """The axes over which the loss of a call is a sum, none that cuts what is differentiated."""
    differentiated = {chain.graph.inputs[k] for k in chain.differentiated}
    return (loss for loss in _all_sums(chain) if differentiated.isdisjoint(loss.found.sliced))


def _not_shared_out(chain: TracedChain, loss: Summed) -> Operation | None:
    """An operation that all parts have in common, whose rule may make of their cotangents what it would not of the sum."""
    found = loss.found
    active = active_variables(chain.graph, [chain.graph.inputs[k] for k in chain.differentiated])
    moved = (op for op in found.before if not active.isdisjoint(op.outputs))
    return next((op for op in moved if not pulled_back_linearly(op)), None)


def _all_sums(chain: TracedChain) -> Iterator[Summed]:
    """The axes of inputs over which the loss is a sum, whatever is differentiated."""
    graph = chain.graph
    if chain.devices > 1 or len(graph.outputs) > 1:
        return
    for start in proposals(graph):
        loss = summed(graph, start)
        if loss is not None and not {*loss.found.sliced}.isdisjoint(graph.inputs):
            yield loss


def _differentiated_and_cut(chain: TracedChain) -> str | None:
    """The first axis over which the loss is a sum, and along which what is differentiated would be cut: "axis 0 of x"."""
    places = (
        f"axis {loss.found.sliced[v]} of {chain.call.names[k]}"
        for loss in _all_sums(chain)
        for k in chain.differentiated
        if (v := chain.graph.inputs[k]) in loss.found.sliced
    )
    return next(places, None)
