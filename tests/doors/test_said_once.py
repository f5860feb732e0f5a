"""Something is said once of each function."""

from __future__ import annotations

from functools import partial

from ckptgrad.doors.said_once import SaidOnce


class Model:
    def loss(self):
        pass


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self):
        pass


def test_once_of_each_function():
    said, other = SaidOnce(), SaidOnce()
    assert said.first_of(test_once_of_each_function)
    assert not said.first_of(partial(partial(test_once_of_each_function), 1))
    assert other.first_of(test_once_of_each_function)
    assert [said.first_of(Model().loss) for _ in range(2)] == [True, False]
    assert [said.first_of(Unhashable()) for _ in range(2)] == [True, True]
