"""The renderer of results: rich and the views are imported when a result is first shown, matplotlib when one is drawn."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from ckptgrad.report import registry
from ckptgrad.results.shown import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from ckptgrad.report.interactive.looks import Drawn


@cache
def _load_views() -> None:
    """Import every file in `report/views`, each of which registers how a type of result is shown."""
    _import_all("ckptgrad.report.views")


@cache
def _load_interactive() -> None:
    """Import every file in `report/interactive`, some of which register what can be zoomed and clicked on."""
    _import_all("ckptgrad.report.interactive")


def _import_all(name: str) -> None:
    for module in pkgutil.iter_modules(importlib.import_module(name).__path__):
        importlib.import_module(f"{name}.{module.name}")


class ReportRenderer:
    """Shows results as what the registry has for their types."""

    def parts(self, result: Shown) -> Sequence[RenderableType]:
        """Tables and lines of text, in order."""
        _load_views()
        return registry.parts(result)

    def figures(self, result: Shown) -> dict[str, Callable[..., Figure]]:
        """Titles, each with a function that draws a figure; the most telling first."""
        _load_views()
        return registry.figures(result)

    def interactive(self, result: Shown) -> dict[str, Callable[[], Drawn]]:
        """Titles, each with a function that draws a figure with Bokeh; the most telling first."""
        _load_interactive()
        return registry.interactive(result)

    def text(self, result: Shown) -> str:
        """The result as plain text."""
        from ckptgrad.report.text import to_text

        return to_text(self.parts(result))

    def html(self, result: Shown) -> str:
        """The result as HTML, with its first picture where matplotlib is installed."""
        from ckptgrad.report.html import to_html
        from ckptgrad.report.plots.style import drawn

        pictures = drawn(dict(list(self.figures(result).items())[:1]))
        # Charts in letters are for where there are no pictures.
        parts = [part for part in self.parts(result) if not (pictures and getattr(part, "no_wrap", False))]
        return to_html(parts, *pictures)

    def diagram(self, result: Shown) -> str:
        """The result drawn in letters, for terminals."""
        from ckptgrad.report.text import to_text

        _load_views()
        return to_text(registry.diagram(result))


RENDERER = ReportRenderer()
