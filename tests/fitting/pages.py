"""The code of a how-to page, as its readers would run it: all blocks of a page, one after the other, in one namespace."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.fitting.libraries import standing_in

HOWTO = Path(__file__).parent.parent.parent / "docs" / "howto"
PAGES = sorted(path.stem for path in HOWTO.glob("*.rst"))


def blocks(page: str, directive: str) -> list[str]:
    """The indented text below each use of a directive."""
    text = (HOWTO / f"{page}.rst").read_text(encoding="utf-8")
    found = re.findall(rf"^\.\. {directive}::\n(?:   :.*\n)*\n((?:   .*\n|\n)+)", text, re.MULTILINE)
    return [re.sub("^   ", "", block, flags=re.MULTILINE).strip("\n") + "\n" for block in found]


@cache
def ran(page: str) -> tuple[dict[str, Any], str]:
    """Run a page once; return the names that its code leaves behind, and what it printed.

    What a page imports and is not there is stood in for. Files that it writes go into a folder that is thrown away.
    """
    names: dict[str, Any] = {"__name__": f"howto_{page}"}
    with (
        contextlib.redirect_stdout(io.StringIO()) as said,
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        standing_in(),
    ):
        for block in blocks(page, "testcode"):
            exec(compile(block, f"{page}.rst", "exec", dont_inherit=True), names)
    return names, said.getvalue()
