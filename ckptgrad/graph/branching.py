# pyright: reportUnknownMemberType=false
"""A `cond` with other branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from jax import lax


def branched(params: Mapping[str, Any], index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`lax.switch` among branches that stand for those of a `cond` with these parameters.

    Where that chooses by platform, so does this: a program compiled for one platform has no operation of another.
    """
    platforms = params.get("branches_platforms")
    if platforms is None:
        return cast(Any, lax.switch(index, branches, *operands))
    named = {name: b for names, b in zip(platforms, branches, strict=True) for name in names or ("default",)}
    return cast(Any, lax.platform_dependent(*operands, **named))
