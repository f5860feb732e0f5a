# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The byte that each program of a staged gradient returns first, by which it is known that it has finished.

On CPU JAX hands a program to one of XLA's threads, whichever is free.  Each of these has a heap of its own: what one freed
does not serve the next, and the end of such a heap cannot be returned from outside.  Only what calls back into Python runs
in the thread that calls it, so that the two cannot wait for each other.  Programs that read and make much have their byte
from such a call: their temporaries are in one heap, and resident memory is near what is certified.  Smaller ones would take
longer.
Source: `ExecuteOptions.execution_mode` of XLA's PjRt clients, which JAX sets to synchronous for programs with callbacks.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Programs that read and make as many bytes run where they are called: that takes 0.2 ms, of some ms.
AT_ONCE = 1 << 21
_DONE = np.zeros((), np.uint8)


def token(at_once: bool) -> Any:
    """The byte of the program that is being traced; `at_once`: it runs in the thread that calls it."""
    return jax.pure_callback(_done, jax.ShapeDtypeStruct((), _DONE.dtype)) if at_once else jnp.asarray(_DONE)


@contextmanager
def interruptible() -> Generator[None]:
    """Have an interrupt that met the callback of a program end as one, where JAX says that the program has failed."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if KeyboardInterrupt.__name__ in str(error):
            raise KeyboardInterrupt from error
        raise


def _done() -> np.ndarray[Any, Any]:
    return _DONE
