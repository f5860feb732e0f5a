"""`ckptgrad train`, as a user calls it."""

from __future__ import annotations

import json


def test_train(run, tmp_path):
    small = ["--depth", "2", "--width", "16", "--heads", "2", "--context", "16", "--batch", "8", "--steps", "20"]
    words = ["--learning-rate", "0.01", "--text", "text.txt", "--budget", "0.8x", "--meters", "none", "--repeats", "1"]
    found = json.loads(run("train", *small, *words, "--json", "--html", "train.html", "--png", "drawn").stdout)
    assert len(found["losses"]) == 20
    assert found["losses"][-1] < found["losses"][0] - 1
    assert found["certified_peak_bytes"] <= found["plan"]["budget_bytes"]
    assert found["validation"]["passed"]
    assert found["sample"].startswith("The ")
    assert "Validation" in (tmp_path / "train.html").read_text()
    assert (tmp_path / "drawn/schedule.png").exists()
