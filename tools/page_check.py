# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at report pages in a real browser, and says what is wrong with them.

Each page is opened light and dark, wide and narrow, and printed. Checked are: no violation of a rule of axe-core; no
scrolling to the side; nothing asked from outside; each link, summary and scrolling table reached by the Tab key, in the
page's order and with a visible focus; nothing folded away in print.

Needs requirements-browser.txt and a chromium of the distribution. Exit code 0: nothing is wrong; 1: something is; 2: no
browser.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_KEYS = 500
_FOCUSABLE = "a[href], summary, [tabindex='0']"
_FOCUSED = """() => {
  const found = document.activeElement;
  if (!found || found === document.body) return null;
  const order = [...document.querySelectorAll("a[href], summary, [tabindex='0']")].indexOf(found);
  const style = getComputedStyle(found);
  return [order, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0];
}"""
_VISIBLE = """selector => [...document.querySelectorAll(selector)].map((found, index) => [index, found])
  .filter(([_, found]) => found.checkVisibility({contentVisibilityAuto: true})).map(([index, _]) => index)"""
_FOLDED = """() => [...document.querySelectorAll('details > *')].filter(
  found => found.getBoundingClientRect().height === 0).map(found => found.textContent.trim().slice(0, 60))"""


@dataclass(frozen=True)
class View:
    """How a page is looked at. Sizes are in CSS pixels."""

    name: str
    width: int
    height: int
    scheme: Literal["light", "dark"]


VIEWS = (
    View("wide-light", 1440, 900, "light"),
    View("wide-dark", 1440, 900, "dark"),
    View("narrow-light", 390, 844, "light"),
    View("narrow-dark", 390, 844, "dark"),
)


def missing() -> str | None:
    """Why no page can be looked at here, with the remedy; None if one can."""
    lacking = [name for name in ("playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
    if lacking:
        return f"the Python packages {', '.join(lacking)} are missing: pip install -r requirements-browser.txt"
    if not any(map(shutil.which, BROWSERS)):
        return f"none of {', '.join(BROWSERS)} is on the PATH: apt-get install chromium"
    return None


def check(paths: Sequence[Path], screenshots: Path | None = None) -> list[str]:
    """What is wrong with the pages, each a sentence with page and view.

    :param screenshots: folder for a picture of each page and view, and for what it prints
    """
    from playwright.sync_api import sync_playwright

    program = next(path for path in map(shutil.which, BROWSERS) if path)
    if screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        # Without a sandbox of its own the browser also starts as root and in containers; it opens our pages only.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            return [problem for path in paths for problem in _page(browser, path, screenshots)]
        finally:
            browser.close()


def _page(browser: Browser, path: Path, screenshots: Path | None) -> Iterator[str]:
    for view in VIEWS:
        page = browser.new_page(viewport={"width": view.width, "height": view.height}, color_scheme=view.scheme)
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(path.resolve().as_uri())
        place = f"{path.name}, {view.name}"
        yield from (f"{place}: asks for {url}" for url in asked[1:] if not url.startswith("data:"))
        yield from (f"{place}: {text}" for text in (*_axe(page), *_too_wide(page), *_keyboard(page)))
        if screenshots:
            page.screenshot(path=screenshots / f"{path.stem}-{view.name}.png", full_page=True)
        if view is VIEWS[0]:
            yield from (f"{place}, printed: {text}" for text in _print(page, path, screenshots))
        page.close()


def _axe(page: Page) -> Iterator[str]:
    from axe_playwright_python.sync_playwright import Axe

    found: dict[str, Any] = Axe().run(page).response
    for violation in found["violations"]:
        for node in violation["nodes"]:
            yield f"axe-core {violation['id']}: {violation['help']}: {' '.join(map(str, node['target']))}"


def _too_wide(page: Page) -> Iterator[str]:
    needed, there = page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    if needed > there:
        yield f"needs {needed} pixels of width, {there} are there"


def _keyboard(page: Page) -> Iterator[str]:
    """Walks through the page with the Tab key."""
    expected: list[int] = page.evaluate(_VISIBLE, _FOCUSABLE)
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    reached: list[int] = []
    for _key in range(_KEYS):
        page.keyboard.press("Tab")
        focused = page.evaluate(_FOCUSED)
        if focused is None:
            break
        order, outlined = focused
        reached.append(order)
        if not outlined:
            yield f"focusable element {order} shows no focus"
    if reached != expected:
        yield f"the Tab key reaches the focusable elements {reached}, expected {expected}"


def _print(page: Page, path: Path, screenshots: Path | None) -> Iterator[str]:
    page.emulate_media(media="print")
    yield from (f"folded away: {text}" for text in page.evaluate(_FOLDED))
    if screenshots:
        page.pdf(path=screenshots / f"{path.stem}.pdf", prefer_css_page_size=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks the pages, prints what is wrong, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.page_check", description=__doc__)
    parser.add_argument("pages", metavar="PAGE", nargs="+", type=Path, help="report.html")
    parser.add_argument("--screenshots", metavar="FOLDER", type=Path, help="keep a picture of each page and view")
    options = parser.parse_args(arguments)
    if reason := missing():
        print(f"page_check: {reason}", file=sys.stderr)
        return 2
    problems = check(options.pages, options.screenshots)
    print("\n".join(problems) if problems else "page_check: nothing is wrong")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
