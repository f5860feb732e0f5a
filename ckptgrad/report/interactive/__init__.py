"""Figures that can be zoomed, hovered over and clicked on, with Bokeh; a file for each kind of figure."""
