"""A timeline in a terminal."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.meters.buffers import Buffer
from ckptgrad.report.text import to_text
from ckptgrad.report.views.timeline import COLUMNS, ROWS, alive_table
from tests.cases.results import KIB, LINE, TIMELINE, moment

TEXT = str(TIMELINE)


def chart(timeline):
    """The letters of the chart, row by row from above, and the line that marks the peak."""
    lines = str(timeline).splitlines()
    mark = next(k for k, line in enumerate(lines) if line.endswith("^ peak"))
    return [line[11:].ljust(COLUMNS) for line in lines[mark - ROWS : mark]], lines[mark][11:]


def test_the_head_names_function_budget_and_the_action_at_the_peak():
    head = TEXT.splitlines()[0]
    assert head.startswith("loss: live bytes beyond the arguments, budget 20.0 KiB")
    assert head.endswith("16.0 KiB during the backward of stage 1")


def test_the_chart_is_as_high_and_as_wide_as_what_is_held():
    """The budget is the highest; the peak is at the middle of its action, from two to four of five seconds."""
    rows, mark = chart(TIMELINE)
    assert set(rows[0].strip()) == {"-"}
    assert mark.index("^") == int(COLUMNS * 0.6)
    # 4 KiB of boundaries, 4 of residuals, 2 of gradients and 6 of transients, in rows of 20 KiB / 14.
    column = "".join(row[mark.index("^")] for row in reversed(rows)).rstrip("- ")
    assert column == "BBBrrrgtttt"
    assert {*rows[-1]} == {"B", "R"}


def test_without_a_budget_the_peak_is_the_highest():
    rows, mark = chart(replace(TIMELINE, budget=None))
    assert rows[0][mark.index("^")] != " "
    assert "- budget" not in str(replace(TIMELINE, budget=None))


def test_the_steps_of_loops_are_seen_in_the_chart():
    """Transients of 4 KiB, then of 1 KiB."""
    course = replace(TIMELINE, budget=None, lives=(), readings={}, moments=(
        moment("F0", 0.0, 4.0, ((2.0, 4 * KIB), (4.0, KIB)), transients=4),
    ))  # fmt: skip
    rows, _ = chart(course)
    heights = [sum(row[k] != " " for row in rows) for k in (5, COLUMNS - 5)]
    assert heights == [ROWS, round(ROWS / 4)]


def test_buffers_that_differ_only_in_their_stage_share_a_row():
    rows = [line.split() for line in to_text([alive_table(TIMELINE.alive)]).splitlines()]
    assert [row[:2] for row in rows[1:]] == [["6.0", "KiB"], ["4.0", "KiB"], ["4.0", "KiB"], ["2.0", "KiB"]]
    (shared,) = [" ".join(row) for row in rows if "x" in row]
    assert shared == "4.0 KiB residuals float32[8,64] x 2 dot_general 0, 1 model.py:12 (layer)"


def test_arrays_inside_stand_below_the_transients_and_are_called_an_estimate():
    inside = (Buffer("transients", 4 * KIB, "tanh", (8, 128), "float32", 1, LINE),)
    rows = [" ".join(line.split()) for line in to_text([alive_table(TIMELINE.alive, inside)]).splitlines()]
    place = next(k for k, row in enumerate(rows) if " transients " in row)
    assert rows[place + 1] == "4.0 KiB inside float32[8,128] tanh 1 model.py:12 (layer)"
    assert "which arrays are held inside is an estimate" in str(replace(TIMELINE, inside=inside))
    assert "estimate" not in str(TIMELINE)


def test_rows_beyond_the_most_are_summed_up():
    alive = [Buffer("residuals", (9 - k) * KIB, f"op {k}", (8,), "float32", k) for k in range(6)]
    lines = to_text([alive_table(alive, most=4)]).splitlines()
    assert len(lines) == 1 + 4 + 1
    assert " ".join(lines[-1].split()) == "9.0 KiB 2 more rows"


def test_stages_are_written_as_ranges():
    stages = [0, 2, 3, 4, 6, 7, 9, 11, 13, 15]
    alive = [Buffer("residuals", KIB, "op", (8,), "float32", stage, LINE) for stage in stages]
    assert "0, 2 .. 4, 6, 7, 9, ..." in to_text([alive_table(alive)])


def test_readings_are_compared_with_what_was_predicted():
    lines = [" ".join(line.split()) for line in TEXT.splitlines()]
    assert any("18.0 KiB +12.5%" in line for line in lines)
    assert any(line.endswith("n/a it was not asked for") for line in lines)
    assert "meter" not in str(replace(TIMELINE, readings={}))


def test_arguments_are_beside_what_the_call_adds():
    found = " ".join(str(replace(TIMELINE, arguments={"params": 3 * KIB, "x": KIB})).split())
    assert "held beside them: params 3.0 KiB, x 1.0 KiB; 20.0 KiB with the peak" in found
    assert "held beside them" not in str(TIMELINE)
