"""What all interactive figures share: their tools, the legend, and how their axes are written."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from bokeh.models import (
    BoxZoomTool,
    CustomJS,
    CustomJSHover,
    CustomJSTickFormatter,
    DataRange1d,
    FactorRange,
    HoverTool,
    Legend,
    LegendItem,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    UIElement,
    WheelZoomTool,
    ZoomInTool,
    ZoomOutTool,
)
from bokeh.plotting import figure

# Matplotlib's hatches under Bokeh's names.
HATCHES = {"": " ", "..": "dot", "//": "right_diagonal_line", "xx": "diagonal_cross", "\\\\": "left_diagonal_line"}
DASHES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dotdash"}
MARKERS = {
    "*": "star",
    "D": "diamond",
    "s": "square",
    "^": "triangle",
    "o": "circle",
    "v": "inverted_triangle",
    "X": "x",
    "P": "plus",
    "x": "cross",
}


class Drawn(NamedTuple):
    """An interactive figure.

    Attributes:
        root: the model.
        caption: what it shows, in a sentence or two.
        ready: what is to be done once it is there, if anything.
    """

    root: UIElement
    caption: str
    ready: CustomJS | None = None


def new_figure(height: int, label: str, **options: Any) -> figure:
    """An empty figure as wide as the page.

    Args:
        height: in pixels.
        label: what it shows, for screen readers.
        options: of the figure.
    """
    wheel = WheelZoomTool(modifiers={"ctrl": True}, description="Ctrl and the wheel zoom")
    drawn = figure(
        height=height,
        sizing_mode=options.pop("sizing_mode", "stretch_width"),
        tools=[PanTool(), BoxZoomTool(), ZoomInTool(), ZoomOutTool(), ResetTool(), SaveTool(), wheel],
        toolbar_location=options.pop("toolbar_location", "above"),
        html_attributes={"role": "img", "aria-label": label},
        **options,
    )  # fmt: skip
    drawn.toolbar.logo = None
    drawn.toolbar.active_scroll = wheel
    drawn.xgrid.visible = False
    drawn.ygrid.grid_line_color = "#999999"
    drawn.ygrid.grid_line_alpha = 0.4
    drawn.outline_line_color = None
    # Zooming out ends where the data do.
    for shown in (drawn.x_range, drawn.y_range):
        if isinstance(shown, (DataRange1d, FactorRange, Range1d)) and shown.bounds is None:
            shown.bounds = "auto"
    return drawn


def add_legend(drawn: figure, items: Sequence[tuple[str, Sequence[Any]]], columns: int = 4) -> None:
    """A legend above the figure, where it hides nothing; a click on an entry hides what it names."""
    legend = Legend(
        items=[LegendItem(label=label, renderers=[*renderers]) for label, renderers in items],
        orientation="horizontal", ncols=columns, click_policy="hide", border_line_color=None,
        label_text_font_size="12px", location="left",
    )  # fmt: skip
    drawn.add_layout(legend, "above")


def share_axis(drawn: figure, label: str) -> None:
    """The horizontal axis as shares of a time, in percent."""
    drawn.xaxis.axis_label = label
    drawn.xaxis.formatter = CustomJSTickFormatter(code="return `${Math.round(tick * 1e6) / 1e4} %`")


def script(name: str, **args: Any) -> CustomJS:
    """A script of this folder, with the models that it reads and writes."""
    return CustomJS(args=args, code=text_of(name))


def text_of(name: str) -> str:
    """The text of a script of this folder."""
    return files(__package__ or "").joinpath("scripts", name).read_text(encoding="utf-8")


def hover(renderers: Sequence[Any], html: str, **formatters: CustomJSHover) -> HoverTool:
    """A tool that shows `html` beside the mouse, without blocking what lies behind."""
    return HoverTool(
        renderers=[*renderers],
        tooltips=html,
        formatters={f"@{name}": formatter for name, formatter in formatters.items()},
        description="Show what is under the mouse",
    )
