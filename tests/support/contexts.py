"""Contexts that say where or how an operation runs, and functions whose operations are made within them."""

from __future__ import annotations

import inspect

from jax.experimental.compute_on import compute_on
from jax.experimental.xla_metadata import set_xla_metadata


def under(context, fun):
    """A function's operations, made within a context manager."""

    def inside(x):
        with context():
            return fun(x)

    return inside


MARKED = {
    "metadata": lambda: set_xla_metadata(group="one"),
    "other metadata": lambda: set_xla_metadata(group="two"),
}
if "f" not in inspect.signature(compute_on).parameters:  # 0.12 has a function that takes one in its place
    MARKED["the host"] = lambda: compute_on("device_host")
