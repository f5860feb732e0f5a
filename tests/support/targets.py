"""Targets that only a compiler knows, where it is installed."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.errors import MissingExtraError


def compile_only(name: str) -> cg.Target:
    """The target of this name; the test is skipped, and says why, where its compiler is not installed."""
    try:
        return cg.target(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
