"""Writing a `cond` again, with other branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax import lax


def branched(params: Mapping[str, Any], index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """`lax.switch` among branches that stand for those of a `cond` with these parameters.

    Where that chooses by platform, so does this: what is compiled for one holds no operation of another.
    """
    platforms = params.get("branches_platforms")
    if platforms is None:
        return lax.switch(index, branches, *operands)
    named = {name: b for names, b in zip(platforms, branches, strict=True) for name in names or ("default",)}
    return lax.platform_dependent(*operands, **named)
