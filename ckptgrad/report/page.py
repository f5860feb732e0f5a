"""A page: one HTML file that opens in a browser without any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.util import find_spec

from ckptgrad.errors import MissingExtraError
from ckptgrad.report.advice import advice_section, without_advice
from ckptgrad.report.html import STYLE, fragment
from ckptgrad.report.plots.style import drawn
from ckptgrad.report.renderer import RENDERER
from ckptgrad.results.shown import Shown

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
{style}<style>body{{font:15px/1.45 system-ui,sans-serif;max-width:88em;margin:2em auto;padding:0 1em}}
body{{color:#222;background:#fff}}
h1{{font-size:1.5em}}h2{{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ccc}}.ckptgrad{{overflow-x:auto}}
.about{{color:#444}}.about p{{margin:.1em 0}}figure{{margin:1em 0}}figure:focus-visible{{outline:3px solid #0072B2}}
figcaption,summary{{font-size:.9em;color:#444;max-width:60em}}</style>
</head><body><h1>{title}</h1>
<div class="about">{about}</div>
{sections}
</body></html>
"""


def page(title: str, sections: Mapping[str, Shown], about: Sequence[str] = ()) -> str:
    """Results under headings, with their tables and figures; advice on the one with the highest peak comes last.

    With Bokeh figures are interactive; without it they are pictures, where matplotlib is installed.

    Args:
        title: of the page.
        sections: headings and results.
        about: lines below the title.
    """
    if find_spec("bokeh") is None:
        about = (*about, str(MissingExtraError("a page whose figures can be zoomed and clicked on", "Bokeh", "plot")))
        body = _static(sections)
    else:
        from ckptgrad.report.interactive.document import interactive_sections

        body = interactive_sections(sections)
    head = "".join(f"<p>{escape(line)}</p>" for line in about)
    return _PAGE.format(title=escape(title), style=STYLE, about=head, sections=body + advice_section(sections))


def _static(sections: Mapping[str, Shown]) -> str:
    return "\n".join(
        f"<h2>{escape(heading)}</h2>{fragment(without_advice(RENDERER.parts(result)), *drawn(result.figures()))}"
        for heading, result in sections.items()
    )
