import gc

import pytest

from ckptgrad.graph.uncollected import uncollected


@uncollected()
def _fails(seen: list[bool]) -> None:
    with uncollected():
        seen.append(gc.isenabled())
    seen.append(gc.isenabled())
    raise ZeroDivisionError


def test_the_collector_waits_and_goes_on_after_an_error_too() -> None:
    seen: list[bool] = []
    with pytest.raises(ZeroDivisionError):
        _fails(seen)
    assert seen == [False, False]
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
