"""Properties that are computed once, without a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):
    """A property that is computed when it is first asked for, and kept.

    Unlike `functools.cached_property`, which up to Python 3.11 holds one lock for all instances while it computes, it
    holds none: what is computed here traces users' rules, which may differentiate something else meanwhile, or wait for
    another thread.  Threads that ask at the same time may compute it twice; all of them get the same value.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> once[T] | T:
        if instance is None:
            return self
        return vars(instance).setdefault(self.name, self.function(instance))
