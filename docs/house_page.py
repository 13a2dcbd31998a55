"""The map of the source for the page on its floors, read out of the test that holds them and of the files' docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path


def floors_of(test: Path) -> tuple[tuple[str, ...], ...]:
    """Return the table of floors, from the ground up, without running the test that it stands in."""
    for node in ast.parse(test.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            found: tuple[tuple[str, ...], ...] = ast.literal_eval(node.value)
            return found
    raise LookupError(f"{test} has no table of floors.")


def sentence_of(unit: str, source: Path) -> str | None:
    """Return the first line of what a file, or a folder's ``__init__.py``, says of itself; None where there is no such file."""
    for path in (source / f"{unit}.py", source / unit / "__init__.py"):
        if path.is_file():
            first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            return re.sub(r":\w+:`~?([\w.]+)`", r"``\1``", first)  # a reference may lead to what has no page
    return None


def house(test: Path, source: Path) -> str:
    """Return a table of the floors, the roof first, with what each file is for."""
    floors = list(enumerate(floors_of(test)))
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 8 92", "", "   * - floor", "     - files"]
    for number, units in reversed(floors):
        said = [(unit, sentence) for unit in units if (sentence := sentence_of(unit, source)) is not None]
        shown = [f"| **{re.sub('_', chr(92) + '_', unit)}**: {sentence}" for unit, sentence in said]
        lines += [f"   * - {number}", *(f"     {'- ' if at == 0 else '  '}{line}" for at, line in enumerate(shown))]
    return "\n".join(lines) + "\n"
