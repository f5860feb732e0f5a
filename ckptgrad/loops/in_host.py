"""What loops store in the host's memory rather than in the device's, one step or one group of steps at a time.

Compilers for GPUs and TPUs keep a stack there that a loop writes or reads entry by entry, so that the device holds one entry
or two; what an unrolled chain sends there comes back too early, and is no use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ckptgrad.graph.atoms import Aval, is_in_host
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.value_types import explicit_sharding, varying_axes
from ckptgrad.loops.stacks import stack_variable
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import Target


def may_leave(aval: Aval) -> bool:
    """Whether values of this type may go to the host: arrays of real numbers of whole bytes, on one device."""
    is_integer = jnp.issubdtype(aval.dtype, jnp.integer)
    if not aval.shape or not (is_integer or jnp.issubdtype(aval.dtype, jnp.floating)):
        return False
    bits = (jnp.iinfo if is_integer else jnp.finfo)(aval.dtype).bits
    return bits >= 8 and explicit_sharding(aval) is None and not varying_axes(aval)


def stack_in_host(v: Variable, count: int) -> Variable:
    """The variable of `count` values like this one stacked, in the host's memory if they may go there."""
    stack = stack_variable(v, count)
    if v.sharding is not None or not may_leave(v.aval):
        return stack
    return Variable(stack.aval.update(memory_space=jax.memory.Space.Host))


def away(values: Sequence[Any]) -> list[Any]:
    """Values sent to the host, those that may go."""
    return [jax.device_put(x, jax.memory.Space.Host) if may_leave(jax.typeof(x)) else x for x in values]


def back(values: Sequence[Any]) -> list[Any]:
    """Values fetched from the host, those that were sent."""
    return [jax.device_put(x, jax.memory.Space.Device) if is_in_host(jax.typeof(x)) else x for x in values]


def leaving_bytes(values: Iterable[Variable], target: Target) -> int:
    """Bytes that the values take in the device's memory, those that may go to the host."""
    return target.total_bytes(v for v in values if v.sharding is None and may_leave(v.aval))


def transfer_seconds(roofline: Roofline, size: int, times: int) -> float:
    """Seconds to send so many bytes, or fetch them, so many times, beside nothing else."""
    rate = roofline.target.platform.host_rate or roofline.rates.read_rate
    return times * (roofline.rates.launch + size / rate)
