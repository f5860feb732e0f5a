"""Encodings are known by name, and used in combinations of the exact ones with each inexact one."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.errors import OptionError
from ckptgrad.stage.encodings.encoding import check_encodings, combinations, get_encoding, largest_error, registered


def test_names_are_checked():
    assert check_encodings("bits") == check_encodings(["bits", "bits"]) == ("bits",)
    assert check_encodings(()) == ()
    assert registered() == ["bfloat16", "bits", "float8", "int8"]
    with pytest.raises(OptionError, match=r"'zip' is unknown; there are .*bits"):
        cg.grad(jnp.sum, encodings=["zip"])
    with pytest.raises(OptionError, match="must be a name or several"):
        cg.grad(jnp.sum, encodings=8)


def test_exact_ones_are_used_with_each_inexact_one():
    names = [[e.name for e in c] for c in combinations(["int8", "bits", "bfloat16", "float8"])]
    assert names[0] == ["bits"]
    assert sorted(names[1:]) == [["bits", "bfloat16"], ["bits", "float8"], ["bits", "int8"]]
    assert combinations(()) == []


def test_only_bits_is_exact():
    assert [name for name in registered() if get_encoding(name).is_exact] == ["bits"]
    assert largest_error(["bits"]) == largest_error(()) == 0
    assert largest_error(["bits", "int8"]) == get_encoding("int8").error > 0
