"""What the words in tables mean."""

from __future__ import annotations

from ckptgrad.meters.buffers import KINDS as KINDS_OF_BUFFERS
from ckptgrad.report.legend import KEPT, KINDS, dim_legend, kept_words, kind_words
from ckptgrad.report.series.words import INSIDE
from ckptgrad.stage.save_options import LEVELS


def test_every_choice_and_every_kind_has_its_explanation():
    assert [name for name, _ in LEVELS] == [*KEPT]
    assert [*KINDS] == [*KINDS_OF_BUFFERS, INSIDE]


def test_choices_that_occur_are_explained_and_no_others():
    assert kept_words({"all", "12 %"}) == f"all: {KEPT['all']}; 12 %: that share of the bytes of the choice that keeps most"
    assert kept_words([]) == ""


def test_what_stands_beside_a_choice_is_explained():
    found = kept_words({"1 checkpoint, 1 step, 92 %", "3 x 4 steps, all", "heavy, as bits", "4 chunks of 2, in one pass"})
    words = [part.partition(": ")[0] for part in found.split("; ")]
    assert words == [
        "all",
        "heavy",
        "92 %",
        "as bits",
        "4 chunks of 2",
        "in one pass",
        "3 x 4 steps",
        "1 checkpoint, 1 step",
    ]


def test_kinds_are_explained_in_their_order():
    assert kind_words(["residuals", "results"]) == f"results: {KINDS['results']}; residuals: {KINDS['residuals']}"
    assert str(dim_legend({"a": "b", "c": "d"})) == "a: b\nc: d"
