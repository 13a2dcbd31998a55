"""Which files a folder holds, in an order that no file system decides."""

from __future__ import annotations

import os
from pathlib import Path

from torchflow.errors import FileError

Skipped = tuple[tuple[str, str], ...]
"""Pairs of a path and the reason why it was left out."""


def walk(folder: Path, suffixes: tuple[str, ...], recursive: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the files of a folder whose names end in a suffix, sorted part by part, and those that were left out.

    Links are followed; a folder that was seen before, which a link around in a circle leads to, is left out.

    Args:
        folder: The folder.
        suffixes: In lower case.
        recursive: Whether folders in it are looked into.

    Returns:
        Names relative to the folder, with ``/``; and pairs ``(name, reason)``.

    Raises:
        FileError: A folder cannot be listed.
    """
    names: list[str] = []
    left_out: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        place = folder / inside
        folders, files = _listed(place, seen)
        if folders is None:
            left_out.append((inside.rstrip("/"), "the folder was seen before: a link leads to it"))
            continue
        for name in files + folders:
            if name.startswith("."):
                left_out.append((inside + name, "hidden"))
            elif name in folders:
                if recursive:
                    waiting.append(f"{inside}{name}/")
                else:
                    left_out.append((inside + name, "a folder, and recursive=False"))
            elif name.lower().endswith(suffixes):
                names.append(inside + name)
            else:
                left_out.append((inside + name, "another suffix"))
    names.sort(key=lambda name: name.split("/"))
    return names, sorted(left_out)


def _listed(place: Path, seen: set[tuple[int, int]]) -> tuple[list[str] | None, list[str]]:
    """Return the folders and the files of a folder; None for the folders where it was seen before."""
    try:
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in seen and found.st_ino:
            return None, []
        seen.add((found.st_dev, found.st_ino))
        with os.scandir(place) as entries:
            listed = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise FileError(f"the folder {place} cannot be listed: {error.strerror or error}. Check its rights.", place) from error
    return [name for name, is_folder in listed if is_folder], [name for name, is_folder in listed if not is_folder]
