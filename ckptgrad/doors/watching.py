"""Being told of the plans by which gradients run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ckptgrad.results.plan import Plan

_WATCHERS: ContextVar[tuple[Callable[[Plan], None], ...]] = ContextVar("watchers", default=())


@contextmanager
def watching(told: Callable[[Plan], None]) -> Iterator[None]:
    """Call `told` with each plan by which a gradient runs, or is traced to run, meanwhile."""
    token = _WATCHERS.set((*_WATCHERS.get(), told))
    try:
        yield
    finally:
        _WATCHERS.reset(token)


def tell(plan: Plan) -> None:
    """A gradient runs by this plan."""
    for told in _WATCHERS.get():
        told(plan)
