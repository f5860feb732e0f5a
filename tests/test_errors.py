"""Every error is one class of ours, with a text and a public name."""

from __future__ import annotations

import inspect

import ckptgrad as cg
from ckptgrad import errors


def test_every_error_is_a_ckptgrad_error():
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]
    assert len(classes) > 8
    for c in classes:
        assert issubclass(c, cg.CkptgradError)
        assert c.__doc__
        if c.__name__ in cg.__all__:
            assert getattr(cg, c.__name__) is c
