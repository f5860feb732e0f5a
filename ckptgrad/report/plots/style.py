"""What all pictures share: colours that the colour-blind can tell and that differ in grey, units, and how a picture leaves.

The colours are those of Okabe and Ito (2008); areas carry hatches besides, lines differ in their dashes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ckptgrad.errors import MissingExtraError

MIB = 2**20
# By kind of buffer: colour and hatch.
KIND_STYLES = {
    "results": ("#BBBBBB", ""),
    "boundaries": ("#0072B2", ""),
    "residuals": ("#56B4E9", ".."),
    "gradients": ("#E69F00", "//"),
    "transients": ("#F0E442", "xx"),
}
# By meter: colour, dashes and width.
METER_STYLES = {
    "xla": ("#000000", "-", 1.6),
    "ledger": ("#000000", "--", 1.4),
    "resident": ("#D55E00", "-", 0.9),
    "device": ("#D55E00", ":", 1.6),
}
BUDGET_COLOUR = "#CC3311"
DPI = 110


def new_figure(width: float = 9.0, height: float = 4.2, rows: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, apart from pyplot's state: nothing is shown or kept.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing", "matplotlib", "plot") from None
    figure: Any = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    # What notebooks show where it is the value of a cell; they know of pyplot's figures only.
    figure._repr_png_ = lambda: to_png(figure)
    axes = figure.subplots(rows, 1, sharex=rows > 1)
    for ax in axes if rows > 1 else [axes]:
        tidy(ax)
    return figure, axes


def axes_for(ax: Any, width: float = 9.0, height: float = 4.2) -> tuple[Any, Any]:
    """The figure of given axes and these, or a new one with its own for None."""
    return (ax.figure, ax) if ax is not None else new_figure(width, height)


def legend_beside(ax: Any) -> None:
    """A legend to the right of the axes, where it hides nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def tidy(ax: Any) -> None:
    """Thin grid lines behind, and no frame where nothing is read off."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", linewidth=0.4, color="#999999", alpha=0.5)
    ax.set_axisbelow(True)


def to_png(figure: Any) -> bytes:
    """A picture's bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def save_png(figure: Any, path: str | Path) -> Path:
    """Write a picture; folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(figure))
    return path


def to_img(figure: Any, text: str) -> str:
    """A picture as an HTML element that needs no other file; `text` says what it shows."""
    data = base64.b64encode(to_png(figure)).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}"/>'


def drawn(figures: dict[str, Callable[[], Any]]) -> list[str]:
    """Pictures as HTML elements; an empty list where matplotlib is not installed."""
    return [to_img(draw(), title) for title, draw in figures.items()] if find_spec("matplotlib") else []
