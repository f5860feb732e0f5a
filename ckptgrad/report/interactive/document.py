"""The body of an interactive page: figures and tables, with Bokeh's own scripts inlined, so that it needs no other file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from html import escape

from bokeh.document import Document
from bokeh.embed import components
from bokeh.events import DocumentReady
from bokeh.model import Model
from bokeh.resources import Resources
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ckptgrad.report.advice import without_advice
from ckptgrad.report.html import fragment
from ckptgrad.report.interactive.looks import text_of
from ckptgrad.report.interactive.tables import of_parts
from ckptgrad.report.renderer import RENDERER
from ckptgrad.results.shown import Shown

# Those of Bokeh's parts that are used.
PARTS = ("bokeh", "bokeh-widgets", "bokeh-tables")


def interactive_sections(sections: Mapping[str, Shown]) -> str:
    """Results under headings: their figures, and their tables, which are sorted by a click and, if long, searched.

    Each table is there as plain HTML too, for screen readers and where scripts are not run.
    """
    roots: dict[str, Model] = {}
    document = Document()

    def placed(root: Model) -> str:
        name = f"root{len(roots)}"
        roots[name] = root
        document.add_root(root)
        return f"@@{name}@@"

    texts = []
    for heading, result in sections.items():
        texts.append(f"<h2>{escape(heading)}</h2>")
        parts = [
            part for part in without_advice(RENDERER.parts(result)) if not getattr(part, "no_wrap", False)
        ]  # no charts in letters
        head = _head(parts)
        texts.append(fragment(head))
        for title, draw in RENDERER.interactive(result).items():
            drawn = draw()
            if drawn.ready is not None:
                document.js_on_event(DocumentReady, drawn.ready)
            label = f'role="group" tabindex="0" aria-label="{escape(title)}" data-root-id="{drawn.root.id}"'
            caption = f"<figcaption>{escape(drawn.caption)}</figcaption>"
            texts.append(f'<figure class="drawn" {label}>{placed(drawn.root)}{caption}</figure>')
        for part in parts[len(head) :]:
            if isinstance(part, Table) and _has_heading(part):
                plain = f"<details><summary>as a plain table</summary>{fragment([part])}</details>"
                texts.append(placed(of_parts(part, heading)) + plain)
            else:
                texts.append(fragment([part]))
    if not roots:
        return "\n".join(texts)
    script, divs = components(roots)
    body = re.sub(r"@@(root\d+)@@", lambda match: divs[match[1]], "\n".join(texts))
    resources = Resources(mode="inline", components=[*PARTS]).render()
    return f"{resources}\n{body}\n{script}\n<script>{text_of('keys.js')}</script>"


def _head(parts: Sequence[RenderableType]) -> list[RenderableType]:
    """What stands above the figures: lines and summaries before the first table, without the line that is its heading."""
    head = [*itertools.takewhile(lambda part: not (isinstance(part, Table) and _has_heading(part)), parts)]
    return head[:-1] if len(head) > 1 and len(head) < len(parts) and isinstance(head[-1], Text) else head


def _has_heading(table: Table) -> bool:
    return any(column.header for column in table.columns)
