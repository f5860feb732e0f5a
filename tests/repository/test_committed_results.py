"""The committed results: they are complete and consistent, and the figures of README and docs/ come from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ckptgrad.bench.book import Book
from ckptgrad.bench.cases.resident import AGREE_BYTES, AGREE_SHARE
from ckptgrad.bench.registry import registered
from ckptgrad.bench.rows import Row
from ckptgrad.bench.tables import FIRST, MIB, page

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def book():
    return Book.load(FOLDER / "results.json")


def test_every_case_is_complete_and_described_as_registered(book):
    """The compilers of other chips are not everywhere: what they allocate may still be missing."""
    cases = registered()
    assert set(book.results) <= set(cases)
    assert all(name.startswith(FIRST) for name in set(cases) - set(book.results))
    for name, result in book.results.items():
        assert (result.title, result.about) == (cases[name].title, cases[name].about)
        assert not result.failure
        assert not result.quick
        assert result.run["commit"]


def test_the_page_is_generated_from_the_results(book):
    assert (FOLDER / "README.md").read_text() == page(book, sorted(FOLDER.glob("*.png")))


def rows(book):
    return [row for result in book.results.values() for row in result.rows]


def test_certified_peaks_keep_their_budgets(book):
    kept = [row for row in rows(book) if "budget_bytes" in row.values and "certified_bytes" in row.values]
    assert len(kept) > 20
    for row in kept:
        assert row.values["certified_bytes"] <= row.values["budget_bytes"], row


def test_over_devices_budgets_are_kept_and_plans_are_no_slower_than_checkpoints(book):
    results = [result for name, result in book.results.items() if name.startswith("devices-")]
    assert results
    for result in results:
        values = {row.run: row.values for row in result.rows}
        ours, rival, swept = values["ours for checkpoint"], values["jax.checkpoint"], values["ours, all budgets"]
        assert ours["certified_bytes"] <= rival["certified_bytes"]
        assert ours["estimated_seconds"] <= rival["estimated_seconds"]
        assert swept["kept"] == swept["budgets"]
        assert swept["monotone"]
        assert swept["off_median_share"] <= 0.05
        assert swept["off_worst_share"] <= 0.1


def test_certified_and_resident_peaks_agree(book):
    resident_rows = book.results["resident"].rows
    assert len(resident_rows) > 20
    for row in resident_rows:
        certified, resident = row.values["certified_bytes"], row.values["resident_bytes"]
        assert abs(resident - certified) <= AGREE_SHARE * certified + AGREE_BYTES, row


def test_our_plans_take_no_more_bytes_than_their_rivals(book):
    rows_by_run = {(row.group, row.run): row for row in book.results["rivals"].rows}
    pairs = [(group, run) for group, run in rows_by_run if (group, f"ours for {run}") in rows_by_run]
    assert len(pairs) == 24
    for group, run in pairs:
        ours, rival = (rows_by_run[group, name].values["certified_bytes"] for name in (f"ours for {run}", run))
        assert ours <= rival


CHIPS = {
    ("targets-h100-mlp", "float32"): "H100: 12 GELU layers, 1024 → 4096 → 1024, float32",
    ("targets-h100-mlp", "bfloat16"): "the same, bfloat16",
    ("targets-h100-transformer", "float32"): "H100: 4 transformer blocks, width and context 1024, float32",
    ("targets-h100-transformer", "bfloat16"): "the same, bfloat16",
    ("targets-h100-resnet", "bfloat16"): "H100: ResNet-50's chain with group norm, bfloat16",
    ("targets-h100-scan", "float32"): "H100: a scan over 12 GELU layers, float32",
    ("targets-h100-experts", "float32"): "H100: 6 layers of 8 experts, float32",
    ("targets-v5e-transformer", "bfloat16"): "TPU v5e: 4 transformer blocks, bfloat16",
}
GIB = 1024 * MIB
RUNS = "jax.grad", "jax.checkpoint, nothing", "ours, no budget", "ours for checkpoint, nothing", "ours, smallest"


@pytest.mark.parametrize(("case", "group"), CHIPS)
def test_figures_show_chips(book, case, group):
    """Temporaries, and the estimated time in proportion to jax.grad's."""
    values = {row.run: row.values for row in book.results[case].rows if row.group == group}
    grad = values["jax.grad"]["estimated_seconds"]
    cells = (f"{values[run]['temporaries_bytes'] / GIB:.2f} ({values[run]['estimated_seconds'] / grad:.2f})" for run in RUNS)
    assert f"| {CHIPS[case, group]} | {' | '.join(cells)} |" in (DOCS / "figures.md").read_text()


SWEPT = {
    "tanh": "tanh layers", "gelu": "GELU layers", "transformer": "transformer", "bfloat16": "transformer in bfloat16",
    "resnet": "ResNet with pooling", "unet": "U-Net", "mixed": "mixed widths", "recurrent": "LSTM, unrolled",
    "tied": "tied weights", "mixer": "mixer",
}  # fmt: skip


@pytest.mark.parametrize("run", SWEPT)
def test_guarantees_show_the_sweep(book, run):
    (row,) = (row for row in book.results["sweep"].rows if row.run == run)
    v = row.values
    cells = [
        SWEPT[run], f"{v['smallest_bytes'] / MIB:.1f} to {v['largest_bytes'] / MIB:.1f}", f"{v['kept']} of {v['budgets']}",
        "yes" if v["monotone"] else "no", f"{v['plans_compiled_mean']:.1f}",
        f"{v['off_median_share']:.1%}".replace("%", " %"), f"{v['off_worst_share']:.1%}".replace("%", " %"),
    ]  # fmt: skip
    assert f"| {' | '.join(cells)} |" in (DOCS / "guarantees.md").read_text()


def ratios(book, case):
    return {f"{row.values['time_ratio']:.2f}" for row in book.results[case].rows}


def lines_after(page, start):
    return (DOCS / page).read_text().partition(start)[2].partition("\n\n")[0].splitlines()


def test_the_page_of_the_engine_shows_its_ratios(book):
    lines = lines_after("engine.md", "| time, against JAX (`ckptgrad bench engine`)")[2:]
    figures = [line.strip("| ").split(" | ")[-1] for line in lines]
    assert len(figures) == len(book.results["engine"].rows)
    assert set(figures) == ratios(book, "engine")


def test_the_page_of_loops_shows_the_ratios_of_the_while_loop(book):
    line = lines_after("loops.md", "| time, against jax.grad of the scan |")[0]
    figures = [cell.strip("* ") for cell in line.strip("| ").split("|")]
    assert len(figures) == 6
    assert set(figures) <= ratios(book, "while")


def shown(row: Row) -> str:
    states = row.values.get("temporaries_states")
    size = f"{row.values['temporaries_bytes'] / MIB:.0f}" if states is None else f"{states:,.0f}"
    return f"{size} ({row.values['time_ratio']:.2f})"


HEADLINES = {
    "| 32 residual tanh layers": ("tanh", ""),
    "| 12 GELU layers": ("gelu", ""),
    "| 12-block transformer, width": ("transformer", ""),
    "| ResNet-50": ("resnet", ""),
    "| T = 4,096": ("scans", "T = 4,096"),
    "| T = 1,024": ("scans", "T = 1,024"),
    "| T = 65,536": ("scans", "T = 65,536"),
}


@pytest.mark.parametrize("start", HEADLINES)
def test_figures_show_these_results(book, start):
    """Every figure of the tables of models and loops is a row of its case."""
    case, group = HEADLINES[start]
    (line,) = (line for line in (DOCS / "figures.md").read_text().splitlines() if line.startswith(start))
    figures = re.findall(r"[\d,]+ \(\d\.\d\d\)", line)
    assert len(figures) >= 3
    assert set(figures) <= {shown(row) for row in book.results[case].rows if row.group.startswith(group)}


README = {
    "| H100: ": ("targets-h100-transformer", "bfloat16", "ours for checkpoint, nothing"),
    "| TPU v5e: ": ("targets-v5e-transformer", "bfloat16", "ours for checkpoint, nothing"),
    "| CPU: ": ("transformer", "", "10 %"),
}


@pytest.mark.parametrize("start", README)
def test_the_readme_shows_a_row_for_each_kind_of_device(book, start):
    case, group, planned = README[start]
    (line,) = (line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(start))
    values = {row.run: row.values for row in book.results[case].rows if row.group == group}
    ours = "ours, no budget" if "ours, no budget" in values else "no budget"
    rival = "jax.checkpoint, nothing" if "jax.checkpoint, nothing" in values else "jax.checkpoint"
    cells = " | ".join(in_words(values[run], values["jax.grad"]) for run in ("jax.grad", rival, ours, planned))
    assert line.endswith(f"| {cells} | `ckptgrad bench {case}` |")


def in_words(values, grad):
    """Temporaries and time, against jax.grad's: measured, or estimated where nothing ran."""
    ratio = values.get("time_ratio") or values["estimated_seconds"] / grad["estimated_seconds"]
    size = values["temporaries_bytes"]
    return (
        f"{size / GIB:.2f} GiB ({ratio:.2f})" if grad["temporaries_bytes"] >= GIB else f"{size / MIB:.0f} MiB ({ratio:.2f})"
    )
