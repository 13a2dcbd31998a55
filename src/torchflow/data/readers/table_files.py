"""A table that lies in several files: which they are, and which of them a row comes from."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.draw import Draw
from torchflow.data.readers.listing import Files, is_table, list_files, say_what_was_left_out
from torchflow.data.readers.walking import Skipped
from torchflow.data.sources import Source
from torchflow.errors import ArgumentTypeError, FileError

Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file, a list of files, or a folder."""


def table_files(path: object, factory: str, suffixes: Sequence[str]) -> Files:
    """Return the files of a table, in the order of their rows: that of the list, or in a folder that of the names.

    Args:
        path: A file, a list of files, or a folder.
        factory: What the messages call the reader.
        suffixes: The ends of the names to take from a folder, in lower case.

    Raises:
        ArgumentTypeError: It is no path, and nothing that has paths in an order.
        ArgumentValueError: The list is empty.
        FileError: The folder has no such file, or one whose folder's name is a column's value.
    """
    if isinstance(path, (str, os.PathLike)):
        place = arguments.path("path", path)
        if not os.path.isdir(place):
            if not os.path.exists(place) and any(mark in str(place) for mark in "*?"):
                remedy = f"Pass a list, sorted(glob.glob({str(place)!r})), or the folder."
                raise FileError(f"there is no file {place}, and patterns are not expanded. {remedy}", place)
            return Files((str(place),), (place.as_posix(),))
    elif is_table(path) or not isinstance(path, Sequence) or isinstance(path, bytes):
        remedy = "A frame is read by from_frame; of a set or an iterator, whose order may differ from run to run, make a list: sorted(...)."
        raise ArgumentTypeError(f"path must be a path, a list of paths or a folder, got {arguments.shown(path)}. {remedy}")
    files = list_files(path, factory=factory, suffixes=suffixes)
    for name, file in zip(files.names, files.paths, strict=True):
        folder = next((part for part in name.split("/")[:-1] if "=" in part), None)
        if folder is not None and isinstance(path, (str, os.PathLike)):
            said = f"{file} lies in {folder!r}, which says a column's value that the file itself does not hold"
            raise FileError(f"{said}. Pass the files as a list to read them without it.", file)
    say_what_was_left_out(files)
    return files


@dataclass(frozen=True, slots=True)
class Places:
    """What messages call the rows of a table.

    Attributes:
        names: The table, or each file it lies in.
        counts: How many rows each file has; nothing for one.
        numbers: What each row is called; None is its index in its file.
    """

    names: Sequence[str]
    counts: Sequence[int] = ()
    numbers: Sequence[int] | None = None

    def of(self, row: int) -> tuple[str, int]:
        """Return the file of a row, or the table, and the row's number in it."""
        if len(self.names) < 2:
            return self.names[0], row if self.numbers is None else self.numbers[row]
        ends = list(accumulate(self.counts))
        file = bisect_right(ends, row)
        return self.names[file], row - (ends[file - 1] if file else 0)


def place_of(paths: Sequence[object]) -> str:
    """Return what messages call the table of some files as a whole."""
    more = len(paths) - 1
    return f"the table of {paths[0]} and {more} more file{'s' if more > 1 else ''}" if more else str(paths[0])


def table_of_files(table: Source, files: Files, counts: Sequence[int]) -> Dataset[Any]:
    """Return the dataset of a table's rows.

    Args:
        table: All rows.
        files: Where they come from.
        counts: How many rows each file has.
    """
    return Dataset(TableFiles(table, files, counts) if len(files) > 1 or files.left_out else table)


class TableFiles(Source):
    """The rows of a table in several files, which follow on within each file alone.

    Args:
        table: All rows.
        files: Where they come from.
        counts: How many rows each file has.
    """

    def __init__(self, table: Source, files: Files, counts: Sequence[int]) -> None:
        self.parents = (table,)
        self.schema = table.schema
        self.files = files
        ends = torch.unique(torch.tensor(list(accumulate(counts)), dtype=torch.int64))
        self._seams: Tensor = ends[(ends > 0) & (ends < table.length)]

    @property
    def length(self) -> int:
        """How many rows there are."""
        return self.parents[0].length

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self.parents[0].lineage

    @property
    def left_out(self) -> Skipped:
        """What the folder holds and nobody asked for."""
        return self.files.left_out

    def seams(self) -> Tensor:
        """Return where the rows of another file begin."""
        return self._seams

    def column(self, part: str | int) -> Tensor | None:
        """Return the table's."""
        return self.parents[0].column(part)

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the table's."""
        return self.parents[0].batch(indices, draw)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the table's."""
        return self.parents[0].samples(indices, draw)
