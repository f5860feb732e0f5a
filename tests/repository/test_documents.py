"""README and the pages beside it: short, and what they point to is there."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text):
    """The fragments that headings of a page make."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines() if line[:1] == "#"
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        path, _, fragment = link.partition("#")
        if "://" in link:
            continue
        assert (page.parent / path).is_file(), link
        assert not fragment or fragment in anchors((page.parent / path if path else page).read_text()), link


def test_the_readme_is_short_and_leads_to_every_page_and_notebook():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    linked = {*LINK.findall(text)}
    others = [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    assert {str(path.relative_to(ROOT)) for path in others} <= linked


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn_by_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vocabulary.py", str(tmp_path / "vocabulary.png")])
    runpy.run_path(str(ROOT / "docs" / "vocabulary.py"))
    assert (tmp_path / "vocabulary.png").read_bytes()[:4] == b"\x89PNG"
