"""Check the documentation that was built: its links, its search, and every page in a browser, wide and narrow, light and dark.

python -m docs.check                     everything, with a picture of every page in docs/_build/pictures
python -m docs.check data callbacks      these pages alone
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.server
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

from docs.check.browser import Browser, BrowserError, browsing
from docs.check.links import broken_links

BUILD = Path(__file__).parents[1] / "_build"
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")  # pixels of a telephone and of a laptop
HIGHEST = 12_000  # pixels of a picture; a longer page is cut
SEARCHED = "EarlyStopping"

# What sticks out of the window to the right, unless it lies in something that scrolls for itself.
STICKING_OUT = """(() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth <= width) return found;
  const scrolls = (e) => e && e !== document.body && (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
  for (const e of document.body.querySelectorAll("*")) {
    const box = e.getBoundingClientRect();
    if (box.right > width + 1 && box.width && getComputedStyle(e).position !== "fixed" && !scrolls(e.parentElement))
      found.push(`${e.tagName.toLowerCase()}.${[...e.classList].join(".")} to ${Math.round(box.right)}: ${e.textContent.trim().slice(0, 40)}`);
  }
  return found.length ? found : [`something to ${document.documentElement.scrollWidth}`];
})()"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files, and say nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder to this machine alone, and yield its address; the search of pages opened as files reads no summaries."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def picture(browser: Browser, path: Path, width: int) -> None:
    """Write a picture of a whole page."""
    height = min(HIGHEST, browser.evaluate("document.documentElement.scrollHeight"))
    area = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=area)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(shot["data"]))


def look_at(browser: Browser, address: str, page: str, pictures: Path) -> list[str]:
    """Look at a page in every width and colour, draw it, and return what is wrong."""
    wrong = []
    for width in WIDTHS:
        for scheme in SCHEMES:
            browser.look(width, scheme)
            browser.visit(address + quote(page))
            place = f"{page} ({width} px, {scheme})"
            wrong += [f"{place}: scrolls sideways: {what}" for what in browser.evaluate(STICKING_OUT)[:3]]
            picture(browser, (pictures / page).with_suffix(f".{width}.{scheme}.png"), width)
            wrong += [f"{place}: the console says: {what.splitlines()[0]}" for what in browser.complaints()]
    return wrong


def search(browser: Browser, address: str, word: str) -> list[str]:
    """Search for a word, and return what is wrong with what is found."""
    browser.visit(f"{address}search.html?q={quote(word)}")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = browser.evaluate("[...document.querySelectorAll('#search-results li a')].map(a => a.textContent)")
        if any(word in title for title in found):
            return [f"search.html: the console says: {what.splitlines()[0]}" for what in browser.complaints()]
        time.sleep(0.2)
    return [f"search.html?q={word}: finds nothing that is called so; it finds {found}"]


def main() -> int:
    """Check, say what is wrong, and return the status."""
    parser = argparse.ArgumentParser(prog="python -m docs.check", description="Check the documentation that was built.")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="such as data or api/torchflow; default: all of them")
    parser.add_argument("--site", type=Path, default=BUILD / "html", help="the folder of the built pages")
    parser.add_argument("--pictures", type=Path, default=BUILD / "pictures", help="where pictures of the pages go")
    args = parser.parse_args()
    if not (args.site / "index.html").is_file():
        print(f"error: there are no pages in {args.site}. Build them first: make docs", file=sys.stderr)
        return 2
    every = sorted(str(path.relative_to(args.site)) for path in args.site.rglob("*.html") if "_static" not in path.parts)
    pages = [f"{page.removesuffix('.html')}.html" for page in args.pages] or every
    if unknown := [page for page in pages if page not in every]:
        parser.error(f"no such page: {', '.join(unknown)}")
    wrong = [f"link: {line}" for line in broken_links(args.site)]
    try:
        with browsing() as browser, served(args.site) as address:
            wrong += search(browser, address, SEARCHED)
            for page in pages:
                wrong += look_at(browser, address, page, args.pictures)
    except BrowserError as error:
        print(*wrong, f"error: {error}", sep="\n", file=sys.stderr)
        return 2
    print(*wrong, f"pages looked at: {len(pages)}; wrong: {len(wrong)}; pictures in {args.pictures}", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
