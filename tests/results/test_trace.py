"""Timelines for other programs: trace events and CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import pairwise

import pytest

from ckptgrad.errors import OptionError
from tests.cases.results import KIB, TIMELINE


@pytest.fixture(scope="module")
def events():
    return json.loads(TIMELINE.to_perfetto())["traceEvents"]


def test_stages_are_slices(events):
    slices = [(e["name"], e["ts"], e["dur"], e["args"]["bytes"]) for e in events if e["ph"] == "X"]
    assert slices == [
        ("forward 0", 0, 1e6, 6 * KIB),
        ("forward 1", 1e6, 1e6, 8 * KIB),
        ("backward 1", 2e6, 2e6, 16 * KIB),
        ("backward 0", 4e6, 1e6, 8 * KIB),
    ]


def test_each_kind_has_a_counter_and_so_has_what_is_observed(events):
    counters = {}
    for e in events:
        if e["ph"] == "C":
            counters.setdefault(e["name"], []).append((e["ts"], e["args"]["bytes"]))
    assert counters["live bytes: transients"] == [(0, 0), (1e6, 0), (2e6, 6 * KIB), (4e6, 0)]
    assert counters["live bytes"][-1] == (5e6, 0)
    assert max(held for _, held in counters["live bytes"]) == TIMELINE.peak_bytes
    assert (2.5e6, 18 * KIB) in counters["observed: xla"]


def test_each_buffer_is_a_slice_that_ends(events):
    begun = {e["id2"]["local"]: e for e in events if e["ph"] == "b"}
    ended = {e["id2"]["local"]: e for e in events if e["ph"] == "e"}
    assert begun.keys() == ended.keys()
    assert len(begun) == len(TIMELINE.lives)
    (boundary,) = [e for e in begun.values() if e["cat"] == "boundaries"]
    assert (boundary["name"], boundary["ts"], ended[boundary["id2"]["local"]]["ts"]) == ("tanh float32[8,128]", 0, 4e6)


def test_what_takes_no_time_lasts_a_second():
    still = replace(TIMELINE, moments=tuple(replace(m, start=0.0, end=0.0) for m in TIMELINE.moments))
    slices = [e for e in json.loads(still.to_perfetto())["traceEvents"] if e["ph"] == "X"]
    assert sum(e["dur"] for e in slices) == 1e6


def test_slices_do_not_overlap_where_times_are_rounded():
    edges = [0.0, 1 / 3, 2 / 3, 0.9999999, 1.0]
    moved = zip(TIMELINE.moments, edges, edges[1:], strict=False)
    odd = replace(TIMELINE, moments=tuple(replace(m, start=start / 7, end=end / 7) for m, start, end in moved))
    slices = [e for e in json.loads(odd.to_perfetto())["traceEvents"] if e["ph"] == "X"]
    nanoseconds = [(round(1000 * e["ts"]), round(1000 * (e["ts"] + e["dur"]))) for e in slices]
    assert len(slices) == 4
    assert all(end == start for (_, end), (start, _) in pairwise(nanoseconds))


def test_moments_and_buffers_are_rows():
    moments = [*csv.DictReader(io.StringIO(TIMELINE.to_csv()))]
    assert [row["action"] for row in moments] == ["F0:1", "F1:0", "B1", "B0"]
    assert (moments[2]["start_share_of_time"], moments[2]["end_share_of_time"], moments[2]["total_bytes"]) == (
        "0.4",
        "0.8",
        str(16 * KIB),
    )
    buffers = [*csv.DictReader(io.StringIO(TIMELINE.to_csv("buffers")))]
    assert sum(int(row["bytes"]) for row in buffers) == sum(life.buffer.bytes for life in TIMELINE.lives)
    assert ("float32[8,128]", "F0:1", "B1", "12") in [
        (r["type"], r["from_action"], r["until_action"], r["line"]) for r in buffers
    ]


def test_what_takes_no_time_has_no_row():
    first, second, third, fourth = TIMELINE.moments
    instant = replace(
        TIMELINE, moments=(first, replace(second, end=second.start), replace(third, start=second.start), fourth)
    )
    assert [row["action"] for row in csv.DictReader(io.StringIO(instant.to_csv()))] == ["F0:1", "B1", "B0"]


def test_other_rows_are_refused():
    with pytest.raises(OptionError, match="'moments' and 'buffers'"):
        TIMELINE.to_csv("lines")
