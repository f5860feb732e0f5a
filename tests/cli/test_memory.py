"""`ckptgrad plan`, `ckptgrad timeline` and `ckptgrad frontier`, as a user calls them."""

from __future__ import annotations

import json

import pytest

from tests.cli.model import TARGET


def test_plan(run):
    text = run("plan", *TARGET, "--budget", "0.5x").output
    assert "predicted peak" in text
    assert "climodel.py" in text


def test_plan_json(run):
    found = json.loads(run("plan", *TARGET, "--budget", "0.8x", "--policy", "sqrt", "--json").stdout)
    assert found["policy"] == "sqrt"
    assert found["peak_bytes"] <= found["budget_bytes"]


def test_costs(run):
    estimated, compiled = (run("plan", *TARGET, "--costs", source, "--json").stdout for source in ("estimate", "compile"))
    assert estimated == run("plan", *TARGET, "--json").stdout != compiled


def test_arguments_from_a_function(run):
    assert run("plan", TARGET[0], "climodel:make_args").output == run("plan", *TARGET).output


@pytest.mark.parametrize("command", ["plan", "timeline", "frontier"])
def test_pages_and_pictures(run, command, tmp_path):
    (tmp_path / "out").mkdir()
    result = run(command, *TARGET, "--html", "out/report.html", "--png", "out/picture.png")
    html = (tmp_path / "out/report.html").read_text()
    assert "climodel" in html
    assert "<p>$ ckptgrad" in html
    assert '<figure class="drawn"' in html
    assert (tmp_path / "out/picture.png").read_bytes()[:4] == b"\x89PNG"
    assert "written: out/report.html" in result.stderr


def test_a_timeline_is_exported(run, tmp_path):
    run("timeline", *TARGET, "--observe", "none", "--trace", "t.json", "--csv", "m.csv", "--csv-buffers", "b.csv")
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert (tmp_path / "m.csv").read_text().startswith("start_share_of_time,end_share_of_time,action,")
    assert (tmp_path / "b.csv").read_text().startswith("bytes,kind,")


def test_all_pictures_into_a_folder(run, tmp_path):
    run("plan", *TARGET, "--png", "pictures", "--diagram")
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["schedule.png", "stage_costs.png", "timeline.png"]


def test_timeline_and_frontier_json(run):
    found = json.loads(run("timeline", *TARGET, "--budget", "0.6x", "--observe", "xla,ledger", "--json").stdout)
    assert set(found["readings"]) == {"xla", "ledger"}
    found = json.loads(run("frontier", *TARGET, "--no-reference", "--json").stdout)
    assert "jax.grad" not in [p["policy"] for p in found["others"]]
