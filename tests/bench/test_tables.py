"""Results as tables, for a terminal and in Markdown."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from ckptgrad.bench.book import Book
from ckptgrad.bench.rows import row
from ckptgrad.bench.tables import cells, columns, comparison, environments, legend, markdown, page, section
from tests.support.book import RESULT, ROWS


def to_text(drawn):
    console = Console(file=io.StringIO(), width=120)
    console.print(drawn)
    return console.file.getvalue()


def test_columns_keep_the_order_of_their_rows():
    assert columns(ROWS) == ["budget_bytes", "certified_bytes", "kept", "time_ratio"]
    headings, texts = cells(ROWS)
    assert headings == ["", "budget, MiB", "certified, MiB", "kept", "time, ratio", "note"]
    assert texts == [
        ["jax.grad", "", "1.0", "", "1.00", ""],
        ["ours", "0.500", "0.500", "yes", "1.23", "a word"],
        ["equinox", "", "", "", "", "left out: equinox is not installed"],
    ]


def test_what_columns_say_that_several_cases_have():
    words = legend(ROWS)
    assert words.startswith("budget: what the plan is given; certified: ")
    assert "kept: whether" in words
    assert legend([row("ours", seconds=1.0)]) == ""
    assert words[:40] in to_text(section(RESULT))


def test_text_and_markdown():
    text = to_text(section(replace(RESULT, quick=True)))
    for words in ("Mine against theirs", "tanh", "left out: equinox", "figures mean nothing", "2026-01-02", "0123456789"):
        assert words in text
    lines = markdown(RESULT).splitlines()
    assert lines[0] == "## mine: Mine against theirs"
    assert "| tanh | ours | 0.500 | 0.500 | yes | 1.23 | a word |" in lines
    assert "| --- | --- | ---: | ---: | ---: | ---: | --- |" in lines
    assert environments(Book({"mine": RESULT})) == "Abacus, 2 cores, 8 GiB, Linux x86_64, python 3.12.1, jax 0.10.2"


def test_accelerators_come_first():
    named = [replace(RESULT, name=name) for name in ("mine", "scale-h100-64", "sweep", "targets-h100-mlp")]
    lines = page(Book({result.name: result for result in named})).splitlines()
    titles = [line.partition(":")[0] for line in lines if line.startswith("## ")]
    assert titles == ["## scale-h100-64", "## targets-h100-mlp", "## mine", "## sweep"]


def test_comparison_shows_what_changed():
    book, changed = Book({"mine": RESULT}), row("ours", "tanh", certified_bytes=2**20, time_ratio=1.3)
    text = to_text(comparison(Book({"mine": replace(RESULT, rows=(ROWS[0], changed))}), book))
    assert "tanh, ours" in text
    assert "+100%" in text
    assert "ratio" not in text
    assert "nothing differs" in to_text(comparison(book, book))
