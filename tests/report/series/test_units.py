"""Units of axes."""

from __future__ import annotations

from ckptgrad.report.series.units import unit_for


def test_an_axis_has_at_least_two_of_its_unit():
    assert [unit_for(n).name for n in (0, 2047, 2048, 3 * 2**20, 1.9 * 2**30, 2**31, 2**60)] == [
        "bytes", "bytes", "KiB", "MiB", "MiB", "GiB", "TiB",
    ]  # fmt: skip
