"""Which files there are, and which class each belongs to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.caller import warn_caller
from torchflow.data.readers.walking import Skipped, walk
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError

Where = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Any
"""A folder, a file, a list of files, or a table with a column of paths."""


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Files to read, and what each is labelled.

    Attributes:
        paths: The files, in the order of the samples.
        names: Their names for messages and comparisons: relative to the folder that was given, with ``/``.
        labels: What is learnt, a row for each file: int64 class indices of shape (files,), or numbers; None without labels.
        classes: The names of the classes, in the order of their indices; None where labels are numbers or there are none.
        left_out: What a folder holds and nobody asked for, hidden files and other suffixes, with the reason.
        skipped: Files that cannot be read and were left out by choice, with the reason.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    left_out: Skipped = ()
    skipped: Skipped = ()

    def __len__(self) -> int:
        return len(self.paths)

    def chosen(self, places: Sequence[int], skipped: Skipped = ()) -> Files:
        """Return the files at some places, with more that were skipped; the classes stay what they are."""
        return replace(
            self,
            paths=tuple(self.paths[place] for place in places),
            names=tuple(self.names[place] for place in places),
            labels=None if self.labels is None else self.labels[torch.tensor(places, dtype=torch.int64)],
            skipped=(*self.skipped, *skipped),
        )


def list_files(
    where: Where,
    *,
    factory: str,
    suffixes: Sequence[str],
    labels: str | Sequence[Any] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    recursive: bool = True,
) -> Files:
    """Return the files of a folder, a list or a column of a table.

    In a folder those are taken whose names end in one of the suffixes, in the order of their names; hidden files and
    folders (whose names begin with a dot) and other suffixes are left out, which ``left_out`` says. Files that are named
    one by one are taken whatever they are called.

    Args:
        where: A folder, a file, a list of files, or a table (a frame, or a mapping from names to columns).
        factory: What the messages call the reader, such as ``from_images``.
        suffixes: The ends of the names to take from folders, in lower case, such as ``(".png", ".fa.gz")``.
        labels: ``"folder"`` for the names of the folders right below ``where``; a list as long as the files; of a table
            the column's name; None for none. Texts become class indices, whole and broken numbers stay numbers.
        classes: The names of the classes in their order; None is those that are found, sorted.
        column: The table's column of paths.
        root: What relative paths of a list or a table start from; None is the working folder.
        recursive: Whether folders in the folder are looked into.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: Labels and files differ in number, or a label is no class.
        FileError: There is no such folder, or nothing in it to read.
    """
    arguments.flag("recursive", recursive)
    start = None if root is None else arguments.path("root", root)
    if column is not None or is_table(where):
        listed, labels = _of_table(where, column, labels, start)
    elif isinstance(where, (str, os.PathLike)):
        place = arguments.path("path", where)
        if place.is_dir():
            return _of_folder(place, factory, tuple(suffixes), labels, classes, recursive=recursive)
        if labels == "folder" and not place.exists():
            raise FileError(f"{factory}: there is no folder {place}. Pass one that has a folder for each class.")
        listed = _of_list([place], start)
    else:
        listed = _of_list(where, start)
    if isinstance(labels, str):
        remedy = "Give a folder with a folder for each class, or labels as a list."
        raise ArgumentValueError(f"labels={labels!r} has no meaning for files that are named one by one. {remedy}")
    return labelled(listed, labels, classes)


def say_what_was_left_out(files: Files) -> None:
    """Warn of what a folder holds and nobody asked for, if there is any."""
    if files.left_out:
        (name, reason), more = files.left_out[0], len(files.left_out) - 1
        others = f" and {more} more" if more else ""
        warn_caller(f"{name} ({reason}){others} in the folder are left out. dataset.left_out lists them.")


def labelled(files: Files, labels: Sequence[Any] | Tensor | None, classes: Sequence[str] | None) -> Files:
    """Return the files with labels: texts as indices of sorted classes, numbers as they are."""
    if labels is None:
        if classes is not None:
            raise ArgumentValueError("classes= names what labels= are, and there are none. Give both, or neither.")
        return files
    values: list[Any] = labels.tolist() if isinstance(labels, (Tensor, np.ndarray)) else list(labels)
    if len(values) != len(files):
        raise ArgumentValueError(f"labels must be as many as files, {len(files)}, got {len(values)}.")
    if all(isinstance(value, str) for value in values):
        known = tuple(sorted(set(values))) if classes is None else checked_classes(classes)
        index = {name: place for place, name in enumerate(known)}
        for name, value in zip(files.names, values, strict=True):
            if value not in index:
                raise ArgumentValueError(f"{name} is labelled {value!r}, which is none of classes: {', '.join(known)}.")
        return replace(files, labels=torch.tensor([index[value] for value in values], dtype=torch.int64), classes=known)
    numbers = labels.detach().clone() if isinstance(labels, Tensor) else _numbers(values)
    if not numbers.is_floating_point():
        numbers = numbers.type(torch.int64)
    return replace(files, labels=numbers, classes=None if classes is None else _classes_of_numbers(numbers, classes))


def _numbers(values: list[Any]) -> Tensor:
    try:
        return torch.tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError("labels must be all texts or all numbers: a gap, or a mixture, is neither.") from None


def _classes_of_numbers(numbers: Tensor, classes: Sequence[str]) -> tuple[str, ...]:
    known = checked_classes(classes)
    if numbers.is_floating_point() or not 0 <= int(numbers.min()) <= int(numbers.max()) < len(known):
        raise ArgumentValueError(
            f"labels must be whole numbers from 0 to {len(known) - 1}, as there are {len(known)} classes, "
            f"got {numbers.min().item()} to {numbers.max().item()}."
        )
    return known


def is_table(where: object) -> bool:
    """Return whether this is a table: a mapping of columns, a frame, or what speaks Arrow."""
    if isinstance(where, (str, os.PathLike, Path)):
        return False
    return isinstance(where, Mapping) or hasattr(where, "__arrow_c_stream__") or hasattr(where, "columns")


def checked_classes(classes: object) -> tuple[str, ...]:
    """Return the names of classes: texts, each once."""
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise ArgumentTypeError(f"classes must be a list of names, got {arguments.shown(classes)}.")
    if not classes or len(set(classes)) < len(classes):
        raise ArgumentValueError(f"classes must name at least one class, each once, got {arguments.shown(classes)}.")
    return tuple(classes)


def _of_folder(
    folder: Path,
    factory: str,
    suffixes: tuple[str, ...],
    labels: str | Sequence[Any] | Tensor | None,
    classes: Sequence[str] | None,
    *,
    recursive: bool,
) -> Files:
    names, left_out = walk(folder, suffixes, recursive)
    if not names:
        raise FileError(_nothing(folder, factory, suffixes, left_out), folder)
    files = Files(tuple(os.path.join(folder, name) for name in names), tuple(names), left_out=tuple(left_out))
    if not isinstance(labels, str):
        return labelled(files, labels, classes)
    if labels != "folder":
        raise ArgumentValueError(f"labels must be 'folder', a list or None for files of a folder, got {labels!r}.")
    loose = [name for name in names if "/" not in name]
    if loose:
        remedy = "Move it into a class's folder, or use labels=None."
        raise FileError(f"{folder / loose[0]} lies beside the folders of the classes, so it has no class. {remedy}", loose[0])
    found = [name.partition("/")[0] for name in names]
    empty = sorted(_folders(folder) - set(found)) if classes is None else []
    if empty:
        remedy = "Remove the folder, or name the classes: classes=[...]."
        raise FileError(f"{folder / empty[0]} is the folder of a class, and {factory} finds nothing in it. {remedy}", empty[0])
    return labelled(files, found, classes)


def _folders(folder: Path) -> set[str]:
    """Return the names of the folders in a folder that are not hidden."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")}


def _nothing(folder: Path, factory: str, suffixes: tuple[str, ...], left_out: list[tuple[str, str]]) -> str:
    others = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name, _ in left_out)
    found = ", ".join(f"{count} with {suffix}" for suffix, count in others.most_common(5))
    has = f"It holds {found}" if found else "It holds no files"
    return f"{folder} has nothing to read: {factory} reads {', '.join(suffixes)}. {has}. Files in a list are read whatever they are called."


def _of_list(paths: Iterable[Any], root: Path | None) -> Files:
    if isinstance(paths, (str, bytes)) or not isinstance(paths, Iterable):
        raise ArgumentTypeError(f"path must be a folder, a file, a list of files or a table, got {arguments.shown(paths)}.")
    given = [arguments.path(f"path {place}", path) for place, path in enumerate(paths)]
    if not given:
        raise ArgumentValueError("the list of files is empty. It needs at least one.")
    return Files(tuple(str(path if root is None else root / path) for path in given), tuple(path.as_posix() for path in given))


def _of_table(table: Any, column: object, labels: Any, root: Path | None) -> tuple[Files, Any]:
    """Return the files of a table's column, and the labels of another."""
    if not isinstance(column, str):
        raise ArgumentTypeError(f"column must name the table's column of paths, got {arguments.shown(column)}.")
    files = _of_list(_column(table, column), root)
    return files, _column(table, labels) if isinstance(labels, str) else labels


def _column(table: Any, name: str) -> list[Any]:
    """Return a table's column as a list."""
    try:
        values = table[name]
    except Exception as error:
        names = getattr(table, "column_names", None) or getattr(table, "columns", None) or table
        listed = ", ".join(map(repr, names)) if isinstance(names, Iterable) else "unknown"
        raise ArgumentValueError(f"the table has no column {name!r}. Its columns are {listed}.") from error
    for convert in ("to_pylist", "to_list", "tolist"):
        if hasattr(values, convert):
            return list(getattr(values, convert)())
    return list(values)
