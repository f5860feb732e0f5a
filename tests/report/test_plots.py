"""Pictures: each is drawn with labelled axes, and written as a file."""

from __future__ import annotations

import pytest

from ckptgrad.report.plots import style


@pytest.mark.parametrize("name", ["plan", "timeline", "frontier", "validation"])
def test_figures_are_drawn_with_labelled_axes(shown, name, tmp_path):
    for title, draw in shown[name].figures().items():
        figure = draw()
        path = style.save_png(figure, tmp_path / f"{title}.png")
        assert path.read_bytes()[:4] == b"\x89PNG"
        assert path.stat().st_size > 10_000
        for ax in figure.axes:
            assert ax.get_ylabel()
        assert figure.axes[-1].get_xlabel() or name == "validation"
