"""What results have in common: they print as text, show as HTML in notebooks, and can be drawn.

Results hold figures and know nothing of tables, HTML or pictures. They hand themselves to the renderer that
`ckptgrad.report` registers when `ckptgrad` is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Renderer(Protocol):
    """What a result asks for when it is shown."""

    def text(self, result: Shown, /) -> str:
        """The result as plain text."""
        ...

    def html(self, result: Shown, /) -> str:
        """The result as HTML, with its first picture where matplotlib is installed."""
        ...

    def figures(self, result: Shown, /) -> dict[str, Callable[..., Figure]]:
        """Titles, each with a function that draws a figure; the most telling first."""
        ...

    def diagram(self, result: Shown, /) -> str:
        """The result drawn in letters, for terminals."""
        ...


class Shown:
    """A result that prints, shows in notebooks and can be drawn.

    Dataclasses that inherit from it are declared with `repr=False`, so that they show as tables at a prompt too.
    """

    _renderer: ClassVar[Renderer]

    @staticmethod
    def use(renderer: Renderer) -> None:
        """Show all results with `renderer` from now on."""
        Shown._renderer = renderer

    def figures(self) -> dict[str, Callable[..., Figure]]:
        """What can be drawn of it, the most telling first: a title, and a function that draws a figure."""
        return self._renderer.figures(self)

    def __str__(self) -> str:
        return self._renderer.text(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows where there is no HTML."""
        printer.text("..." if cycle else str(self))

    def _repr_html_(self) -> str:
        return self._renderer.html(self)
