"""Results: saved as JSON and loaded, merged case by case, shown as tables and pictures."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from ckptgrad.bench.book import Book, BookError, Result
from ckptgrad.bench.cases.scaling import PANELS
from ckptgrad.bench.rows import row
from ckptgrad.bench.shown import save_pictures
from ckptgrad.bench.tables import cells, columns, comparison, environments, markdown, section
from ckptgrad.errors import MissingExtraError

RUN = {
    "machine": {
        "processor": "Abacus", "cores": 2, "memory_bytes": 2**33, "system": "Linux x86_64",
        "platform": "cpu", "device": "cpu", "devices": 1,
    },
    "versions": {"python": "3.12.1", "jax": "0.10.2", "torch": None},
    "commit": "0123456789abcdef",
    "date": "2026-01-02T03:04+00:00",
}  # fmt: skip
ROWS = (
    row("jax.grad", "tanh", certified_bytes=2**20, time_ratio=1.0),
    row("ours", "tanh", budget_bytes=2**19, certified_bytes=2**19, kept=True, time_ratio=1.234, note="a word"),
    row("equinox", "tanh", skipped="equinox is not installed"),
)
RESULT = Result("mine", "Mine against theirs", "What the columns mean.", RUN, False, ROWS, 12.0)


def to_text(drawn):
    console = Console(file=io.StringIO(), width=120)
    console.print(drawn)
    return console.file.getvalue()


def test_json_and_back(tmp_path):
    book = Book({"mine": RESULT, "other": replace(RESULT, name="other", run=RUN | {"commit": None})})
    book.save(tmp_path / "results.json")
    assert Book.load(tmp_path / "results.json") == book
    saved = json.loads((tmp_path / "results.json").read_text())
    assert len(saved["runs"]) == 2
    assert saved["cases"]["mine"]["rows"][0] == {
        "run": "jax.grad", "group": "tanh", "certified_bytes": 2**20, "time_ratio": 1.0,
    }  # fmt: skip
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 1}', '{"format": 0, "cases": {}}', '{"format": 1, "cases": {"a": {}}}']
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(BookError, match=r"other\.json"):
        Book.load(tmp_path / "other.json")
    with pytest.raises(BookError, match="cannot read"):
        Book.load(tmp_path / "nowhere.json")


def test_a_case_replaces_its_earlier_result_unless_it_ended_early():
    book = Book()
    early = replace(RESULT, rows=ROWS[:1], failure="interrupted")
    book.add(early)
    assert book.results["mine"] == early
    book.add(RESULT)
    book.add(early)
    assert book.results["mine"] == RESULT
    again = replace(RESULT, seconds=1.0)
    book.add(again)
    assert book.results["mine"] == again


def test_columns_keep_the_order_of_their_rows():
    assert columns(ROWS) == ["budget_bytes", "certified_bytes", "kept", "time_ratio"]
    headings, texts = cells(ROWS)
    assert headings == ["", "budget, MiB", "certified, MiB", "kept", "time, ratio", "note"]
    assert texts == [
        ["jax.grad", "", "1.0", "", "1.00", ""],
        ["ours", "0.500", "0.500", "yes", "1.23", "a word"],
        ["equinox", "", "", "", "", "left out: equinox is not installed"],
    ]


def test_text_and_markdown():
    text = to_text(section(replace(RESULT, quick=True)))
    for words in ("Mine against theirs", "tanh", "left out: equinox", "figures mean nothing", "2026-01-02", "0123456789"):
        assert words in text
    lines = markdown(RESULT).splitlines()
    assert lines[0] == "## mine: Mine against theirs"
    assert "| tanh | ours | 0.500 | 0.500 | yes | 1.23 | a word |" in lines
    assert "| --- | --- | ---: | ---: | ---: | ---: | --- |" in lines
    assert environments(Book({"mine": RESULT})) == "Abacus, 2 cores, 8 GiB, Linux x86_64, python 3.12.1, jax 0.10.2"


def test_comparison_shows_what_changed():
    book, changed = Book({"mine": RESULT}), row("ours", "tanh", certified_bytes=2**20, time_ratio=1.3)
    text = to_text(comparison(Book({"mine": replace(RESULT, rows=(ROWS[0], changed))}), book))
    assert "tanh, ours" in text
    assert "+100%" in text
    assert "ratio" not in text
    assert "nothing differs" in to_text(comparison(book, book))


def curves() -> Book:
    factors = dict(zip(PANELS, (0.01, 0.1, 2**20, 0.001), strict=True))
    rows = [
        row(run, f"{x} layers", layers=x, **{panel: factor * x for panel, factor in factors.items()})
        for x in (10, 100, 1000)
        for run in ("jax.grad", "ours")
    ]
    return Book({"depth": replace(RESULT, name="depth", rows=tuple(rows)), "mine": RESULT})


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    (path,) = save_pictures(curves(), tmp_path / "new")
    assert path.name == "depth.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"ckptgrad\[plot\]"):
        save_pictures(curves(), tmp_path)
