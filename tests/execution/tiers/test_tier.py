"""Tiers as users write them."""

from __future__ import annotations

import pytest

import ckptgrad as cg
from ckptgrad.errors import OptionError, TierError
from ckptgrad.execution.tiers.tier import Tier, read_tier, read_tiers


@pytest.mark.parametrize(
    ("text", "kind", "place", "capacity"),
    [
        ("host:64GiB", "host", "", 64 << 30),
        ("disk:/scratch:500GiB", "disk", "/scratch", 500 << 30),
        ("disk:/a:b:1MiB", "disk", "/a:b", 1 << 20),
        ("disk:relative/1:10", "disk", "relative/1", 10),
    ],
)
def test_what_is_written_is_read(text, kind, place, capacity):
    assert read_tier(text) == Tier(kind, place, capacity)


def test_without_bytes_half_of_what_is_free_is_taken(tmp_path):
    assert read_tier(f"disk:{tmp_path}").capacity > 0
    assert read_tier("host").capacity > 0


@pytest.mark.parametrize("text", ["", "tape:1GiB", "disk", "disk:1GiB:", "host:a:b", "host:/scratch:1GiB", "host:0.5x", 3])
def test_what_is_malformed_is_refused(text):
    with pytest.raises(TierError):
        read_tier(text)


def test_several_are_a_tuple_and_one_may_stand_alone():
    assert [str(t) for t in read_tiers(["host:1MiB", "disk:/x:1MiB"])] == ["host", "disk:/x"]
    assert read_tiers("host:1MiB") == read_tiers(["host:1MiB"])
    assert read_tiers("auto")[0].kind == "disk"
    assert read_tiers(()) == ()


def test_one_program_sends_to_no_file():
    with pytest.raises(OptionError, match="runtime='staged'"):
        cg.grad(abs, tiers=["disk:/x:1MiB"])
