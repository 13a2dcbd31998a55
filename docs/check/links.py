"""Links between the pages of a built site, read out of its HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Page:
    """What a page leads to, and the anchors that it has."""

    links: list[tuple[int, str]] = field(default_factory=list)  # each with its line
    anchors: set[str] = field(default_factory=set)


class Reader(HTMLParser):
    """Collect links and anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag leads to, and what it is called."""
        line, _ = self.getpos()
        for name, value in attrs:
            if name in ("href", "src"):
                self.page.links.append((line, value or ""))
            if name == "srcset":
                self.page.links += [(line, part.split()[0]) for part in (value or "").split(",") if part.strip()]
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.page.anchors.add(value)


def read(text: str) -> Page:
    """Return the links and anchors of a page's HTML."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader.page


def broken_links(site: Path) -> list[str]:
    """Return a line for each link inside a site that leads to no file, out of the site, or to no anchor of a page.

    Args:
        site: The folder of the built pages.

    Returns:
        Lines such as ``"data.html:12: kinds.html#tables: there is no such anchor"``, in the order of pages and lines.
    """
    site = site.resolve()
    pages = {path.resolve(): read(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for line, link in page.links:
            if wrong := _what_is_wrong(link, path, site, pages):
                found.append(f"{path.relative_to(site)}:{line}: {link or 'an empty link'}: {wrong}")
    return found


def _what_is_wrong(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None  # another site
    target = path
    if parts.path:
        root = site if parts.path.startswith("/") else path.parent
        target = (root / unquote(parts.path).lstrip("/")).resolve()
    if not target.is_relative_to(site):
        return "it leads out of the site"
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "there is no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "there is no such anchor"
    return None
