"""The look that all tables share."""

from __future__ import annotations

from ckptgrad.report.tables import budget_words, need_words, table_of, two_columns
from ckptgrad.report.text import to_text


def test_budgets_in_words():
    assert budget_words(None) == "no budget"
    assert budget_words(2048) == "budget 2.0 KiB"
    assert budget_words(2048, least=True) == "budget min"
    assert budget_words(2048, source="0.5x of it") == "budget 2.0 KiB (0.5x of it)"


def test_numbers_are_aligned_to_the_right_and_text_to_the_left():
    table = table_of("name", "bytes", left=("name",))
    table.add_row("a", "10")
    table.add_row("bcdef", "9")
    assert to_text([table]).splitlines() == ["name   bytes", "a         10", "bcdef      9"]


def test_only_wrapped_columns_run_over_several_lines():
    table = table_of("name", "how", left=("name", "how"), wrapped=("how",))
    table.add_row("a name", "word " * 40)
    lines = to_text([table], width=60).splitlines()
    assert len(lines) > 3
    assert sum("a name" in line for line in lines) == 1


def test_names_and_descriptions():
    grid = two_columns()
    grid.add_row("policy", "optimal")
    assert to_text([grid]) == "policy  optimal"


def test_the_whole_need_names_the_largest_arguments():
    many = {f"a{k}": 1024 * (k + 1) for k in range(8)}
    words = need_words(many, 2048)
    assert words.startswith("a7 8.0 KiB, a6 7.0 KiB, ")
    assert words.endswith(", a2 3.0 KiB, 2 more 3.0 KiB; 38.0 KiB with the peak")
    assert need_words({}, 2048) == "none; 2.0 KiB with the peak"
