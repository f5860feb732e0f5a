# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Values that a probe makes and reads, so that a compiler counts them as temporaries of the probe.

They must be neither arguments nor results of the compiled program, and no work on them may be moved across the stage that
is probed.  How a compiler is told so depends on the platform:

- `Isolation.CALLS`: callbacks to Python make and read them; they are compiled and never run.
- others: each is filled with a number that the program is given, and all pass one optimization barrier.  These platforms
  keep barriers, and a compiler for devices that are not here compiles no callback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes, lax

from ckptgrad.graph.keys import from_numbers, is_key, numbers_struct
from ckptgrad.target.platform import Isolation

# The scope that their operations stand in: what these take is not the stage's.
SCOPE = "probe_values"


def is_plain(aval: Any) -> bool:
    """Whether it can be made and read: an array of numbers, or of keys as the numbers that they are made of."""
    return aval.size > 0 and (is_key(aval) or not _is_opaque(aval.dtype))


def fillings(structs: Sequence[Any], isolation: Isolation) -> list[Any]:
    """The types of the further arguments of a program that makes values of these types."""
    if isolation is Isolation.CALLS:
        return []
    return [jax.ShapeDtypeStruct((), (numbers_struct(s) if is_key(s) else s).dtype) for s in structs]


def produce(structs: Sequence[Any], numbers: Sequence[Any], isolation: Isolation) -> list[Any]:
    """Values of these types, from the arguments that `fillings` asked for."""
    if not structs:
        return []
    plain = [numbers_struct(s) if is_key(s) else s for s in structs]
    if isolation is Isolation.CALLS:
        made = jax.pure_callback(_never, plain)
    else:
        with jax.named_scope(SCOPE):
            made = lax.optimization_barrier([jnp.full(s.shape, x, s.dtype) for s, x in zip(plain, numbers, strict=True)])
    return [from_numbers(x, s) if is_key(s) else x for s, x in zip(structs, made, strict=True)]


def consume(values: Sequence[Any], isolation: Isolation) -> Any:
    """Read values after all of them are there."""
    plain = [jax.random.key_data(v) if is_key(v) else v for v in values if is_plain(v)]
    if not plain:
        return ()
    if isolation is Isolation.CALLS:
        return jax.pure_callback(_never, jax.ShapeDtypeStruct((), np.float32), *plain)
    with jax.named_scope(SCOPE):
        return [lax.slice(v, (0,) * v.ndim, (1,) * v.ndim) for v in lax.optimization_barrier(plain)]


def _is_opaque(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, dtypes.extended) or dtype == dtypes.float0


def _never(*_: Any) -> Any:
    raise AssertionError("a probe is compiled, never run")
