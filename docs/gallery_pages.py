"""The gallery: what sphinx-gallery must be told so that examples stay plain scripts, which write their pictures to ``out``.

They are run in copies of their own. Sphinx keeps its configuration on disk and can't keep functions there: ``conf.py`` names
``pictures`` by its path.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PLACE = re.compile(r"^\.\. _sphx_glr_gallery_.*:\n\n", re.MULTILINE)


def copied(examples: Path, copies: Path) -> str:
    """Copy examples and their heading to a folder in which they may write, and return it; of a former copy nothing stays."""
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir(parents=True)
    for path in (*examples.glob("*.py"), examples / "README.rst"):
        shutil.copy(path, copies)
    return str(copies)


def pictures(block: object, variables: Mapping[str, Any], configuration: Mapping[str, Any]) -> str:
    """Move the pictures that an example has written to where its page looks for them, and return what shows them."""
    from sphinx_gallery.scrapers import figure_rst  # noqa: PLC0415  (the pure parts of this file are tested without it)

    places: Iterator[str] = variables["image_path_iterator"]
    return str(figure_rst(moved(Path(variables["src_file"]).parent / "out", places), configuration["src_dir"], "What it draws"))


def moved(folder: Path, places: Iterator[str]) -> list[str]:
    """Move the pictures of a folder, in the order in which they were written, to the next places, and return those."""
    found = sorted(folder.glob("*.png"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    return [str(shutil.move(path, next(places))) for path in found]


def titled(page: str, text: str) -> str:
    """Return the text of an example's page with a title, and with the commands of its docstring as commands.

    The docstring of an example begins with a sentence, as any other; pages need titles.
    """
    place = PLACE.search(text)
    if place is None:
        return text
    title = page.rpartition("/")[2].replace("_", " ").capitalize()
    commands = re.compile(r"^((?:python examples/.*\n)+)\n", re.MULTILINE)
    rest = commands.sub(
        lambda found: ".. code-block:: text\n\n" + re.sub("(?m)^", "   ", found[1]).rstrip() + "\n\n", text[place.end() :]
    )
    return f"{text[: place.end()]}{title}\n{'=' * len(title)}\n\n{rest}"
