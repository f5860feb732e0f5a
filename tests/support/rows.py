"""Rows of tables of tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def quick_rows(names: Iterable[Any], *quick: Any) -> list[Any]:
    """All rows of a table, those besides `quick` as slow tests; tuples are rows of several parameters."""
    rows = [*names]
    missing = [row for row in quick if row not in rows]
    assert not missing, missing

    def row(values: Any) -> Any:
        parameters = values if isinstance(values, tuple) else (values,)
        return pytest.param(*parameters, marks=[] if values in quick else [pytest.mark.slow])

    return [row(values) for values in rows]
