"""The backward reads from codes; whether these are kept is for the minimum cut to say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.errors import OptionError
from ckptgrad.stage.encodings.encoding import check_encodings, registered, with_codes

LARGE, SMALL = jnp.ones((64, 64)), jnp.ones((4, 4))


def joint_of(x):
    stages = cg.plan(lambda x: jnp.sum(jax.nn.relu(x @ x) @ x), x).program.stages
    return next(s.kind.joint for s in stages if any(v.aval.dtype == bool for v in s.kind.joint.frontier))


def test_names_are_checked():
    assert check_encodings("bits") == check_encodings(["bits"]) == ("bits",)
    assert check_encodings(()) == ()
    assert "bits" in registered()
    with pytest.raises(OptionError, match=r"'zip' is unknown; there are .*bits"):
        cg.grad(jnp.sum, encodings=["zip"])


def test_without_encodings_and_for_what_is_small_nothing_changes():
    large, small = joint_of(LARGE), joint_of(SMALL)
    assert with_codes(large, ()) is large
    assert with_codes(small, ("bits",)) is small


def test_no_operation_of_the_backward_reads_what_is_encoded():
    plain = joint_of(LARGE)
    (mask,) = [v for v in plain.frontier if v.aval.dtype == bool]
    coded = with_codes(plain, ("bits",))
    assert mask not in coded.frontier
    assert not [op for op in coded.backward_operations if mask in op.inputs]
    assert (coded.inputs, coded.outputs, coded.gradients) == (plain.inputs, plain.outputs, plain.gradients)
