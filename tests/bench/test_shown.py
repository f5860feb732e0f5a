"""Results as pictures."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from bokeh.models import ColumnDataSource

from ckptgrad.bench.book import Book
from ckptgrad.bench.cases.scaling import PANELS
from ckptgrad.bench.rows import row
from ckptgrad.bench.shown import ShownResult, save_pictures
from ckptgrad.errors import MissingExtraError
from ckptgrad.report.renderer import RENDERER
from tests.support.book import RESULT


def curves() -> Book:
    factors = dict(zip(PANELS, (0.01, 0.1, 2**20, 0.001), strict=True))
    rows = [
        row(run, f"{x} layers", layers=x, **{panel: factor * x for panel, factor in factors.items()})
        for x in (10, 100, 1000)
        for run in ("jax.grad", "ours")
    ]
    return Book({"depth": replace(RESULT, name="depth", rows=tuple(rows)), "mine": RESULT})


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    (path,) = save_pictures(curves(), tmp_path / "new")
    assert path.name == "depth.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"ckptgrad\[plot\]"):
        save_pictures(curves(), tmp_path)


def test_curves_are_drawn_to_be_pointed_at():
    book = curves()
    (draw,) = RENDERER.interactive(ShownResult(book.results["depth"])).values()
    named = [source.data["name"][0] for source in draw().root.select({"type": ColumnDataSource})]
    assert sorted(named) == ["jax.grad"] * len(PANELS) + ["ours"] * len(PANELS)
    assert RENDERER.interactive(ShownResult(RESULT)) == {}
