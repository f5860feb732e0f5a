"""To which trace a tracer belongs: JAX has no public name for it."""

from __future__ import annotations

from typing import Any

from jax.core import Tracer


def trace_of(value: Any) -> Any:
    """The trace that made a value; None of what is no tracer."""
    return getattr(value, "_trace", None) if isinstance(value, Tracer) else None
