"""How results are shown, by their type.

To add a type of result: a file in `ckptgrad/results` with a dataclass that inherits from `Shown`, and a file in
`ckptgrad/report/views` that registers here what it is shown as. The folder is searched; nothing else changes. Results of
rooms above this one (`bench`, `notebook`) register what they are shown as beside their dataclasses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING

from ckptgrad.results.shown import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from ckptgrad.report.interactive.looks import Drawn
    from ckptgrad.results.advice.advice import Advice


@singledispatch
def parts(result: Shown) -> Sequence[RenderableType]:
    """Tables and lines of text, in order. Every type of result registers its own."""
    raise TypeError(f"no view is registered for results of type {type(result).__name__}")


@singledispatch
def figures(result: Shown) -> dict[str, Callable[..., Figure]]:
    """What can be drawn, the most telling first: titles, and functions that draw a figure, some of them on given axes."""
    return {}


@singledispatch
def interactive(result: Shown) -> dict[str, Callable[[], Drawn]]:
    """What a page can show to be zoomed and clicked on, the most telling first: titles, and functions that draw."""
    return {}


@singledispatch
def advice(result: Shown) -> Callable[[], Sequence[Advice]] | None:
    """What computes advice on a result; None where there is none to give."""
    return None


@singledispatch
def diagram(result: Shown) -> Sequence[RenderableType]:
    """The result drawn in letters, for terminals."""
    raise TypeError(f"no diagram is registered for results of type {type(result).__name__}")
