"""What results have in common: they print as text, and show as HTML in notebooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


class Shown:
    """A result that is made of parts that rich can show; rich is imported when it is first shown.

    Dataclasses that inherit it are declared with `repr=False`, so that they show as tables at a prompt too.
    """

    def report_parts(self) -> list[RenderableType]:
        """Tables and lines of text, in order."""
        raise NotImplementedError

    def figures(self) -> dict[str, Callable[[], Any]]:
        """What can be drawn of it, the most telling first: a title, and a function that draws a figure."""
        return {}

    def __str__(self) -> str:
        from ckptgrad.report.text import to_text

        return to_text(self.report_parts())

    def __repr__(self) -> str:
        return str(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows where there is no HTML."""
        printer.text("..." if cycle else str(self))

    def _repr_html_(self) -> str:
        from ckptgrad.report.html import to_html
        from ckptgrad.report.plots.style import drawn

        pictures = drawn(dict(list(self.figures().items())[:1]))
        # Charts in letters are for where there are no pictures.
        parts = [part for part in self.report_parts() if not (pictures and getattr(part, "no_wrap", False))]
        return to_html(parts, *pictures)
