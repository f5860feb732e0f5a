"""The functions of which something was said, so that it is said once of each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakSet


class SaidOnce:
    """Functions of which something was said; those that are made anew for each call are told apart by their lines alone."""

    def __init__(self) -> None:
        self._said: WeakSet[Any] = WeakSet()
        self._lock = Lock()

    def first_of(self, fun: Callable[..., Any]) -> bool:
        """Whether nothing was said of a function so far; from now on it was."""
        while isinstance(fun, functools.partial):
            fun = fun.func
        fun = getattr(fun, "__func__", fun)
        try:
            with self._lock:
                is_new = fun not in self._said
                self._said.add(fun)
        except TypeError:  # what has no hash, or cannot be referred to weakly
            return True
        return is_new
