"""Advice: the last part of a plan, and the last section of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rich.text import Text

from ckptgrad.report import registry
from ckptgrad.results.advice.advice import Advice
from ckptgrad.results.shown import Shown

HEADING = "What to know"


class AdviceText(Text):
    """Advice among other parts of a report; pages show it behind all of these."""


def advice_parts(advice: Sequence[Advice]) -> list[AdviceText]:
    """A heading and a line for each sentence; nothing where there is none."""
    return [AdviceText("\n".join([HEADING, *(f"- {one.text}" for one in advice)]))] if advice else []


def without_advice(parts: Sequence[Any]) -> list[Any]:
    """Parts of a report but for its advice."""
    return [part for part in parts if not isinstance(part, AdviceText)]


def advice_section(sections: Mapping[str, Shown]) -> str:
    """The last section of a page, as HTML: advice on the result that holds the most; "" where there is none.

    Of several gradients the heading says on which.
    """
    advised = {heading: (result, advise) for heading, result in sections.items() if (advise := registry.advice(result))}
    if not advised:
        return ""
    heading = max(advised, key=lambda name: getattr(advised[name][0], "peak_bytes", 0))
    highest, advise = advised[heading]
    advice = advise()
    if not advice:
        return ""
    others = [result for result, _ in advised.values() if type(result) is type(highest)]
    on = f": {heading}, which has the highest peak" if len(others) > 1 else ""
    sentences = "".join(f"<li>{escape(one.text)}</li>" for one in advice)
    return f'\n<h2>{escape(HEADING + on)}</h2><div class="ckptgrad"><ul>{sentences}</ul></div>'
