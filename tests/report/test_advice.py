"""Advice at the end of plans and pages."""

from __future__ import annotations

from dataclasses import replace

from ckptgrad.report.advice import HEADING, AdviceText, advice_parts, advice_section, without_advice
from ckptgrad.report.page import page
from ckptgrad.results.advice.advice import Advice
from tests.cases.results import TIMELINE


def advised(name, kib, words):
    moments = tuple(replace(m, bytes={kind: kib * size for kind, size in m.bytes.items()}) for m in TIMELINE.moments)
    return replace(TIMELINE, name=name, moments=moments, advise=lambda: (Advice("peak", words, {}),))


def test_a_line_for_each_sentence_under_a_heading():
    (text,) = advice_parts([Advice("peak", "one", {}), Advice("budgets", "two", {})])
    assert str(text) == f"{HEADING}\n- one\n- two"
    assert advice_parts([]) == []
    assert without_advice(["first", text]) == ["first"]


def test_a_page_ends_with_advice_on_the_highest_peak(shown):
    html = page("title", {"low": advised("low", 1, "a < b"), "high": advised("high", 2, "c < d")})
    end = html[html.rindex("<h2>") :]
    assert f"{HEADING}: high, which has the highest peak" in end
    assert "<li>c &lt; d</li>" in end
    assert "a &lt; b" not in html
    assert advice_section({"none": TIMELINE}) == ""


def test_a_plan_and_its_timeline_share_their_advice_and_it_stands_once(shown):
    plan = shown["plan"]
    html = page("title", {"Plan": plan, "Timeline": plan.timeline("loss")})
    assert html.count(f"{HEADING}</h2>") == html.count(HEADING) == 1
    assert str(plan).rstrip().rpartition("\n\n")[2].startswith(HEADING)
    assert any(isinstance(part, AdviceText) for part in plan._renderer.parts(plan))
