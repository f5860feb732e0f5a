"""The door `diff`: what differs between two plans, timelines or certificates."""

from __future__ import annotations

from typing import Any

from ckptgrad.errors import OptionError
from ckptgrad.execution.certified import Certified
from ckptgrad.execution.compiled_step import CompiledStep
from ckptgrad.results.changes import Changes, Contents, changes, contents


def diff(before: Any, after: Any) -> Changes:
    """What appeared, what went and what grew between two results of one kind.

    Args:
        before, after: two plans, two timelines, or two certificates (what `certify`, `fit` and `.compile` return, too).

    Returns:
        The changes: `print` them for a table, or read `totals`, `held`, `stages`, `to_json()`.

    Raises:
        OptionError: they are of different kinds, or of one that is not compared.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> steps = [cg.certify(lambda w: w + 1, jnp.ones(size)) for size in (256, 512)]
        >>> [(change.name, change.what, change.by) for change in cg.diff(*steps).held]
        [('w', 'grew', 1024), ('results', 'grew', 1024)]
    """
    found = [_contents(result) for result in (before, after)]
    if found[0].kind != found[1].kind:
        raise OptionError(f"diff compares two results of one kind, and was given a {found[0].kind} and a {found[1].kind}")
    return changes(*found)


def _contents(result: Any) -> Contents:
    if isinstance(result, CompiledStep):
        result = result.certificate
    found = contents(result.plan if isinstance(result, Certified) else result)
    if found is None:
        raise OptionError(
            f"diff compares plans, timelines and certificates (of cg.plan, cg.timeline, cg.certify, cg.fit, .compile), not "
            f"what is of type {type(result).__name__}"
        )
    if isinstance(result, Certified):
        certified = {"peak": result.peak_bytes, "temporaries": result.temporary_bytes}
        return Contents("certificate of a gradient", {**found.totals, **certified}, found.held, found.stages, found.seconds)
    return found
