"""`largest_batch`: the largest batch with which a step is within its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ckptgrad.bytes import Budget
from ckptgrad.doors.batch_sizes import size_step
from ckptgrad.doors.fit import fit_call, memory_bytes
from ckptgrad.doors.step_call import JitOptions, Names, Places, step_call
from ckptgrad.errors import OptionError, StepMemoryError
from ckptgrad.results.largest_batch import LargestBatch, TriedSize
from ckptgrad.results.step_certificate import StepCertificate
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target


def largest_batch(
    make_args: Callable[[int], tuple[Any, ...]],
    step: Callable[..., Any],
    *,
    memory: Budget = "auto",
    start: int = 1,
    most: int = 2**20,
    donate_argnums: Places = None,
    donate_argnames: Names = None,
    static_argnums: Places = None,
    static_argnames: Names = None,
    target: TargetChoice = None,
) -> LargestBatch:
    """The largest batch with which a step is within a device's memory, by certificates: nothing is run.

    The size is doubled until the step does not fit, then bisected; where arguments are cut over devices, among sizes that
    these can share, from `start` on. Whether larger batches take more, as that assumes, is checked on the sizes that were
    tried (`is_monotone`).

    Args:
        make_args: from the size of a batch to the arguments of the step, a tuple; ShapeDtypeStructs are enough.
        step, memory, target: as for `fit`; memory that is free now is read once.
        start: the smallest size.
        most: the largest size.
        donate_argnums, donate_argnames, static_argnums, static_argnames: as `jax.jit` takes them.

    Returns:
        The size, and the certificate of the step at that size.

    Raises:
        StepMemoryError: the step does not fit at the smallest size.
        OptionError: sizes that are not ascending positive integers, or of which devices cannot share the smallest; or no
            memory to keep to.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> args = lambda size: (jax.ShapeDtypeStruct((size, 256), jnp.float32),)
        >>> cg.largest_batch(args, lambda x: x * 2, memory="20KiB").size
        10
    """
    if not 1 <= start <= most:
        raise OptionError(f"start={start!r} and most={most!r} must be sizes of batches, the smallest and the largest")
    options = JitOptions(donate_argnums, donate_argnames, static_argnums, static_argnames)
    chosen = named_target(target)
    limit = memory_bytes(step_call(step, tuple(make_args(start)), {}, options), memory, chosen)
    if limit is None:
        raise OptionError("memory=None is no limit, so that there is no largest batch; give bytes, or 'auto'")
    certificates: dict[int, StepCertificate] = {}
    tried: dict[int, TriedSize] = {}
    errors: dict[int, StepMemoryError] = {}

    def fits(size: int) -> bool:
        call = step_call(step, tuple(make_args(size)), {}, options)
        try:
            certificate = fit_call(call, limit, chosen).certificate
            certificates[size] = certificate
        except StepMemoryError as error:
            certificate, errors[size] = error.certificate, error
        tried[size] = TriedSize(size, size in certificates, certificate.peak_bytes, certificate.argument_bytes)
        return size in certificates

    apart = size_step(make_args, step, start, most)
    low, high = start, start
    if not fits(start):
        raise errors[start]
    while high + apart <= most:
        high = start + apart * max((low - start) // apart + 1, (min(2 * low, most) - start) // apart)
        if not fits(high):
            break
        low = high
    while high - low > apart:
        middle = low + apart * ((high - low) // apart // 2)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return LargestBatch(low, certificates[low], tuple(tried[size] for size in sorted(tried)))
