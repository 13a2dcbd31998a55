"""Files that logs are written to."""

from __future__ import annotations

import os
from pathlib import Path


def set_aside(path: Path) -> Path | None:
    """Rename a file that is there to ``name.1``, or the first number that is free; return its new path.

    What an earlier run wrote is never written over.
    """
    if not os.path.lexists(path):
        return None
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}.{number}")):
        number += 1
    path.rename(target)
    return target
