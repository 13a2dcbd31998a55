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

TITLES = {"gan": "A GAN", "film": "A film", "plots": "Five plots", "real_table": "A real table", "workbook": "A workbook"}
COMMANDS = re.compile(r"^((?:python examples/.*\n)+)\n", re.MULTILINE)
CALL = re.compile(r" Run python examples/[^<\n]*")
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
    """Return the text of a page of the gallery as it is shown: an example's page with a title, its commands as commands.

    The docstring of an example begins with a sentence, as any other; pages need titles. How it is run is no part of its caption
    in the overview.
    """
    place = PLACE.search(text)
    if place is None:
        return CALL.sub("", text)
    name = page.rpartition("/")[2]
    title = TITLES.get(name, name.replace("_", " ").capitalize())
    before, after = text[: place.end()], text[place.end() :]
    return f"{before}{title}\n{'=' * len(title)}\n\n{COMMANDS.sub(_shown, after)}"


def _shown(commands: re.Match[str]) -> str:
    lines = [re.sub(" {2,}", "  # ", line) for line in commands[1].splitlines()]
    return "\n   ".join([".. code-block:: console\n", *(f"$ {line}" for line in lines)]) + "\n\n"
