"""What holds the smallest plan of a loop up, in words and as data."""

from __future__ import annotations

import json

from ckptgrad.graph.source import SourceLine
from ckptgrad.results.loop_floor import LoopFloor

FLOOR = LoopFloor("scan", SourceLine("net.py", 7, "loss"), "1 checkpoint, 1 step", 2048, 1024, 3.0, 1.5, 8192)


def test_in_words():
    assert str(FLOOR).splitlines() == [
        "held there, as predicted, by the scan at net.py:7 (loss) (1 checkpoint, 1 step): "
        "2.0 KiB stored between forward and backward, 1.0 KiB inside a pass",
        "estimated time there: 2.00 times that of the fastest plan without a budget",
    ]


def test_where_neither_place_nor_time_is_known():
    floor = LoopFloor("while", None, "online", 0, 1024, 0.0, 0.0, 1024)
    assert "by the while (online): 0 B stored" in str(floor)
    assert "time" not in str(floor)


def test_as_data():
    data = json.loads(json.dumps(FLOOR.to_dict()))
    assert data["bytes"] == FLOOR.bytes == 3072
    assert data["place"] == "net.py:7 (loss)"
    assert data["times_fastest"] == 2.0
