"""Tracing a call for a door: what the user's function does comes back as it is."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg

X = jnp.array([1.0, 2.0])


def test_errors_of_the_user_pass_unchanged():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cg.grad(broken)(X)
