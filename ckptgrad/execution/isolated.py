# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How a stage is kept whole inside a compiled program, isolated from the rest of it.

A compiler that sees the same operations on the same inputs twice merges them, and the memory that recomputation should
have saved is lost; one that may move operations across stages holds what the schedule has freed; one that fuses cheap
work into later readers holds the operands of that work.  The target's platform says how that is prevented:

- `Isolation.CALLS`, where XLA drops optimization barriers, or moves work past them: each forward and backward is a call with
  the attribute `inlineable="false"`.  Its operands and results are buffers, its inside is scheduled alone, and two calls
  remain two: the repetition has the latest cotangent among its operands, which also orders it.
- `Isolation.BARRIERS`: what a stage reads passes an optimization barrier (`fenced`), but only where work is repeated,
  since nothing is fused across a barrier.  First forwards have none.  A repeated forward passes one together with the
  latest cotangent, and later work reads the cotangent from behind it: a compiler drops an operand of a barrier whose
  result is unused, and the repetition would no longer wait for the cotangent.  The backward from residuals of such a
  forward stands in the same region, as in `jax.checkpoint`.  A backward from residuals of the first forward is fenced,
  for what it does again; totals to which it adds always are.
- `Isolation.WHOLE`: each forward and backward stands between two barriers.  What a stage holds is what it holds alone, at
  the price of what might have been fused across.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from ckptgrad.graph.trace import ISOLATED_NAME
from ckptgrad.graph.value_types import behind_one_barrier
from ckptgrad.target.platform import Isolation

T = TypeVar("T")


def isolated(function: Callable[[Any], list[Any]], isolation: Isolation) -> Callable[..., list[Any]]:
    """`function`, as a call that a compiler neither takes apart nor merges with another one, if its operands are `fenced`.

    Args:
        function: of one pytree of arrays, to a list of arrays.
        isolation: the way of the platform that it is compiled for; `NONE` for a plan that leaves its stages open.

    Returns:
        A function of the same pytree, and of arrays to wait for.
    """

    def whole(operands: Any, earlier: Sequence[Any]) -> list[Any]:
        operands, _ = behind_one_barrier((operands, earlier))
        # The attribute is for this call, not for calls inside it.
        with set_xla_metadata(inlineable=None):
            return behind_one_barrier(function(operands))

    def plain(operands: Any) -> list[Any]:
        return function(operands)

    not_inlined, inlined = _named(whole), _named(plain)

    def call(operands: Any, earlier: Sequence[Any] = ()) -> list[Any]:
        if isolation is Isolation.NONE:
            return function(operands)
        if isolation is Isolation.BARRIERS:
            return inlined(operands)
        if isolation is Isolation.WHOLE:
            return not_inlined(operands, list(earlier))
        with set_xla_metadata(inlineable="false"):
            return not_inlined(operands, list(earlier))

    return call


def fenced(values: T, isolation: Isolation) -> T:
    """A pytree of arrays behind one barrier, where stages are not kept apart by calls.

    What is computed from them is not merged with what is computed from the values before the barrier, and comes after all
    of these are there.
    """
    return _fence(values) if isolation is Isolation.BARRIERS and jax.tree.leaves(values) else values


def _named(function: Callable[..., Any]) -> Callable[..., Any]:
    """A jitted function by whose name tracing knows that its barriers are for the compiler alone."""
    function.__name__ = function.__qualname__ = ISOLATED_NAME
    return jax.jit(function)


def _all_fenced(values: Any) -> Any:
    return behind_one_barrier(values)


_fence = _named(_all_fenced)


def add_isolated(total: Any, term: Any, isolation: Isolation) -> Any:
    """A sum that is done here and now: left to be fused at the end of a chain of sums, it would hold every term."""
    return _addition(isolation)(fenced([total, term], isolation))[0]


@cache
def _addition(isolation: Isolation) -> Callable[..., list[Any]]:
    return isolated(lambda terms: [jnp.add(*terms)], isolation)
