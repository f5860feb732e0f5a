"""Pages in a browser, without a network: what a person sees, points at and clicks on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def opened(path: Path, width: int = 1300) -> Iterator[Any]:
    """A page in headless Chromium once its figures are drawn; skips where Playwright or Chromium is missing.

    The page fails the test if it asks for anything else, or if one of its scripts fails.
    """
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": width, "height": 1100})
            asked, failed = list[str](), list[str]()
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: failed.append(str(error)))
            page.goto(path.as_uri())
            page.wait_for_function("Bokeh.documents.length > 0 && Bokeh.documents.every((d) => d.is_idle)")
            yield page
            assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
            assert failed == []
        finally:
            browser.close()


def value(page: Any, name: str, expression: str) -> Any:
    """Of the model with that name, `expression` in JavaScript, in which it is called `m`."""
    found = "Bokeh.documents[0].get_model_by_name(name)"
    return page.evaluate(f"(name) => {{ const m = {found}; return {expression} }}", name)


def point_at(page: Any, name: str, x: float, y: float) -> tuple[float, float]:
    """Where a point of a figure lies in the window, in pixels, for the mouse."""
    return tuple(
        page.evaluate(
            """([name, x, y]) => {
              const figure = Bokeh.documents[0].get_model_by_name(name)
              const view = Bokeh.index.find_one_by_id(figure.id)
              const box = view.canvas_view.el.getBoundingClientRect()
              return [box.left + view.frame.x_scale.compute(x), box.top + view.frame.y_scale.compute(y)]
            }""",
            [name, x, y],
        )
    )


def texts(page: Any, selector: str) -> list[str]:
    """What the elements say, inside Bokeh's shadow roots too."""
    return page.locator(selector).all_inner_texts()
