"""Files that logs are written to."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torchflow.errors import ArgumentValueError
from torchflow.hooks import Callback


def refuse_folder(callback: Callback, path: Path) -> None:
    """Refuse the path of a file that is a folder, which may hold anything, before it is renamed or a run fails at it.

    Raises:
        ArgumentValueError: It is a folder.
    """
    if path.is_dir():
        name = type(callback).__name__
        raise ArgumentValueError(f"{name} writes a file, and {path} is a folder. Name a file in it: {name}({str(path / 'log')!r}).")


def set_aside(path: Path) -> Path | None:
    """Rename a file that is there to ``name.1``, or the first number that is free; return its new path.

    What an earlier run wrote is never written over; an empty file, such as one of a run that was killed at its start, stays.
    """
    if not os.path.lexists(path) or (path.is_file() and not path.stat().st_size):
        return None
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}.{number}")):
        number += 1
    path.rename(target)
    return target


def set_files_aside(folder: Path, pattern: str) -> Path | None:
    """Move the files of a pattern into a new folder ``name.1`` beside theirs, or the first number that is free; return it.

    All else in the folder stays: it may hold other things, and other folders.
    """
    found = [path for path in folder.glob(pattern) if path.is_file()]
    if not found:
        return None
    number, folder = 1, Path(os.path.abspath(folder))
    while os.path.lexists(target := folder.with_name(f"{folder.name}.{number}")):
        number += 1
    target.mkdir()
    for path in found:
        path.rename(target / path.name)
    return target


def written_by(callbacks: Mapping[str, Callback]) -> Iterator[tuple[str, Callback, Path]]:
    """Yield every callback that writes, with its name and its file or folder."""
    for name, callback in callbacks.items():
        if callback.writes is not None:
            yield name, callback, Path(getattr(callback, callback.writes))


def writing_elsewhere(callbacks: Mapping[str, Callback], place: Callable[[str, Callback, Path], Path]) -> dict[str, Callback]:
    """Return the callbacks, with shallow copies that have another place in place of those that write.

    Args:
        callbacks: The callbacks by name; they stay as they are.
        place: ``(name, callback, path) -> path``: where a callback writes from now on.
    """
    others = dict(callbacks)
    for name, callback, path in written_by(callbacks):
        others[name] = twin = copy.copy(callback)
        setattr(twin, str(callback.writes), place(name, callback, path))
    return others


def of_fold(fold: str) -> Callable[[str, Callback, Path], Path]:
    """Return where the callbacks of a fold write: ``logs/a.csv`` becomes ``logs/fold-0/a.csv``, and a folder ``logs`` ``logs/fold-0``."""
    return lambda _, callback, path: path.parent / fold / path.name if callback.writes == "path" else path / fold
