"""Results: saved as JSON and loaded, merged case by case."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ckptgrad.bench.book import Book, BookError
from tests.support.book import RESULT, ROWS, RUN


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
