"""Every error is one class of ours, with a text and a public name."""

from __future__ import annotations

import inspect
import pickle

import ckptgrad as cg
from ckptgrad import errors


def test_every_error_is_a_ckptgrad_error():
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]
    assert len(classes) > 8
    for c in classes:
        assert issubclass(c, cg.CkptgradError) != issubclass(c, Warning)
        assert c.__doc__
        if c.__name__ in cg.__all__:
            assert getattr(cg, c.__name__) is c
        assert c.__module__ == "ckptgrad.errors"
    assert {c.__name__ for c in classes} == {*errors.__all__}
    assert {name for name in cg.__all__ if name.endswith("Error")} <= {*errors.__all__}
    assert pickle.loads(pickle.dumps(errors.StageError("a chain"))).args == ("a chain",)
