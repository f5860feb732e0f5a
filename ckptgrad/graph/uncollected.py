"""Chains of tens of thousands of operations are traced and planned without looking for garbage on the way: hardly any of it
is, and to look through all of it again and again took a third of the time."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """Python's collector of cycles waits until the `with` block ends, unless it was off before."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
