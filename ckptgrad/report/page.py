"""A page: one HTML file that opens in a browser without any other."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ckptgrad.report.html import STYLE, fragment
from ckptgrad.report.plots.style import drawn
from ckptgrad.report.renderer import RENDERER
from ckptgrad.results.shown import Shown

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
{style}<style>body{{font:15px/1.45 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}}
body{{color:#222;background:#fff}}
h1{{font-size:1.5em}}h2{{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ccc}}.ckptgrad{{overflow-x:auto}}</style>
</head><body><h1>{title}</h1>
{sections}
</body></html>
"""


def page(title: str, sections: Mapping[str, Shown]) -> str:
    """Results under headings, each with its tables and, if matplotlib is installed, all its pictures."""
    parts = [
        f"<h2>{escape(heading)}</h2>{fragment(RENDERER.parts(result), *drawn(result.figures()))}"
        for heading, result in sections.items()
    ]
    return _PAGE.format(title=escape(title), style=STYLE, sections="\n".join(parts))
