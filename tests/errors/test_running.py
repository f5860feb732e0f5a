"""Errors of what is compiled or run say what is missing here."""

from __future__ import annotations

from ckptgrad.errors import MissingExtraError, NotAttachedError, StagedError


def test_what_is_missing_is_named_with_what_brings_it():
    assert str(MissingExtraError("compiling for an H100", "XLA's GPU compiler", "gpu-target")).endswith(
        "which is not installed: pip install 'ckptgrad[gpu-target]'"
    )
    assert "planned and compiled for an H100, which is not attached" in str(NotAttachedError("an H100"))


def test_a_staged_gradient_inside_a_transformation_says_what_to_use_instead():
    assert "runtime='compiled'" in str(StagedError.inside_a_transformation())
