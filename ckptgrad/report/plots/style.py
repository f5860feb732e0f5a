"""What all pictures share: colours that colour-blind readers can tell apart, units, and how a picture is written.

The colours are those of Okabe and Ito (2008). Areas also differ in their hatches and lines in their dashes, so that pictures
can be read in grey.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ckptgrad.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIB = 2**20
# By kind of buffer: colour and hatch.
KIND_STYLES = {
    "results": ("#BBBBBB", ""),
    "boundaries": ("#0072B2", ""),
    "residuals": ("#56B4E9", ".."),
    "gradients": ("#E69F00", "//"),
    "transients": ("#F0E442", "xx"),
}
# A kind of storage that has no style of its own.
OTHER_STYLE = ("#CC79A7", "\\\\")
# By meter: colour, dashes and width.
METER_STYLES = {
    "xla": ("#000000", "-", 1.6),
    "ledger": ("#000000", "--", 1.4),
    "resident": ("#D55E00", "-", 0.9),
    "device": ("#D55E00", ":", 1.6),
}
# By what runs: colour and hatch.
PASS_STYLES = {"forward": ("#999999", ""), "repeated forward": ("#D55E00", "xx"), "backward": ("#E69F00", "//")}
# What others hold: dashes in turn.
REFERENCE_COLOUR, REFERENCE_DASHES = "#777777", ("--", ":", "-.")
BUDGET_COLOUR = "#CC3311"
DPI = 110


def new_figure(width: float = 9.0, height: float = 4.2, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure and its axes from top to bottom, independent of pyplot: nothing is shown or kept in its state.

    Args:
        width, height: in inches.
        rows: the number of axes, which share what is to the right.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing", "matplotlib", "plot") from None
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    # Notebooks show it where it is the value of a cell; by themselves they only know pyplot's figures.
    figure.__dict__["_repr_png_"] = lambda: to_png(figure)
    axes = list(figure.subplots(rows, 1, sharex=rows > 1, squeeze=False)[:, 0])
    for ax in axes:
        tidy(ax)
    return figure, axes


def axes_for(ax: Axes | None, width: float = 9.0, height: float = 4.2) -> tuple[Figure, Axes]:
    """The given axes and their figure, or a new figure and its axes for None."""
    if ax is not None:
        return cast("Figure", ax.figure), ax
    figure, (ax,) = new_figure(width, height)
    return figure, ax


def legend_beside(ax: Axes) -> None:
    """A legend to the right of the axes, where it hides nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def tidy(ax: Axes) -> None:
    """Draw thin grid lines behind the data, and no frame where no value is read."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", linewidth=0.4, color="#999999", alpha=0.5)
    ax.set_axisbelow(True)


def to_png(figure: Figure) -> bytes:
    """The bytes of a picture."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write a picture; missing folders are created."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(figure))
    return path


def to_img(figure: Figure, text: str) -> str:
    """A picture as an HTML element that needs no other file; `text` says what it shows."""
    data = base64.b64encode(to_png(figure)).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}"/>'


def drawn(figures: dict[str, Callable[[], Figure]]) -> list[str]:
    """Pictures as HTML elements; an empty list if matplotlib is not installed."""
    return [to_img(draw(), title) for title, draw in figures.items()] if find_spec("matplotlib") else []
