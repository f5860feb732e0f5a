"""What all pictures share."""

from __future__ import annotations

import base64
import itertools
import sys

import pytest
from matplotlib.colors import to_rgb

from ckptgrad.errors import MissingExtraError
from ckptgrad.report.plots import style


def test_kinds_differ_in_grey_or_in_their_hatches():
    def grey(colour):
        return sum(w * c for w, c in zip((0.299, 0.587, 0.114), to_rgb(colour), strict=True))

    for (a, x), (b, y) in itertools.combinations(style.KIND_STYLES.values(), 2):
        assert abs(grey(a) - grey(b)) > 0.1 or x != y


def test_without_matplotlib_html_has_no_picture_and_drawing_says_what_to_install(shown, monkeypatch):
    monkeypatch.setattr(style, "find_spec", lambda name: None)
    assert "data:image" not in shown["plan"]._repr_html_()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ckptgrad\[plot\]'"):
        shown["plan"].plot()


def test_axes_share_what_is_to_the_right():
    figure, axes = style.new_figure(4.0, 3.0, rows=2)
    assert [*figure.get_size_inches()] == [4.0, 3.0]
    axes[0].set_xlim(0, 7)
    assert axes[1].get_xlim() == (0, 7)
    assert style.axes_for(axes[1]) == (figure, axes[1])


def test_a_picture_is_written_into_new_folders_and_into_html(tmp_path):
    figure, (ax,) = style.new_figure(1.0, 1.0)
    style.legend_beside(ax)
    assert ax.get_legend() is None
    path = style.save_png(figure, tmp_path / "some" / "folder" / "a.png")
    img = style.to_img(figure, "bytes > time")
    assert 'alt="bytes &gt; time"' in img
    assert base64.b64decode(img.split("base64,")[1].split('"')[0])[:8] == path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert figure._repr_png_()[:4] == b"\x89PNG"
