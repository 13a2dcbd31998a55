"""Columns of text in tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from torchflow import arguments
from torchflow.data.readers.files import Files, checked_files, list_files
from torchflow.data.readers.headers import Labels, as_targets
from torchflow.data.readers.listing import _column, is_table
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError


def texts_of_table(
    path: Any, column: object, labels: Any, decode: Callable[[str], str], delimiter: str
) -> tuple[Files, list[str], Any]:
    """Return where a table comes from, the texts of a column, and its labels, of a column or as they are given.

    Args:
        path: A text file with a header line, a frame, or a mapping of columns.
        column: The column of texts.
        labels: The column of labels, labels themselves, or None.
        decode: From a path to the text of its file.
        delimiter: What stands between cells.

    Raises:
        ArgumentTypeError: ``column`` is no name, or ``path`` no table.
        FileError: A column is not there, has a gap, or the file is damaged; the message names line or row.
    """
    if not isinstance(column, str):
        raise ArgumentTypeError(f"column must be the name of one, got {arguments.shown(column)}.")
    by_name = isinstance(labels, str)
    if is_table(path):
        files = Files(("the table",), ("the table",))
        texts, found = _column(path, column), _column(path, labels) if by_name else labels
    else:
        files = list_files(str(arguments.path("path", path)), factory="from_text", suffixes=(".csv", ".tsv"))
        files = checked_files(files, "raise")
        if len(files) > 1 or files.paths[0] != str(path):
            raise ArgumentTypeError(f"column= needs one table, and {path} is a folder. Pass the path of one file.")
        cells = _cells(files.paths[0], decode(files.paths[0]), delimiter, [column, *([labels] if by_name else [])])
        texts, found = cells[0], cells[1] if by_name else labels
    place = files.paths[0]
    if not texts:
        raise FileError(f"{place} has no rows. It needs at least one.", place)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            remedy = "Fill it in, or leave the row out."
            raise FileError(f"{place}, row {row}, column {column!r} is no text: {arguments.shown(text)}. {remedy}", place)
    return files, texts, found


def labels_of_rows(place: str, labels: Any, classes: Sequence[str] | None, rows: int) -> Labels | None:
    """Return the labels of a table's rows as targets, or None where there are none.

    Raises:
        ArgumentValueError: They are not as many as rows.
        DataError: They mix kinds, or one is no class.
    """
    if labels is None:
        return None
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if len(values) != rows:
        raise ArgumentValueError(f"labels must be as many as rows, {rows}, got {len(values)}.")
    return as_targets(values, lambda row: f"{place}, row {row},", classes)


def _cells(path: str, text: str, delimiter: str, columns: Sequence[str]) -> list[list[str]]:
    """Return some columns of a table in a text file."""
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise ArgumentValueError(f"delimiter must be one character, for example ',' or '\\t', got {arguments.shown(delimiter)}.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    made: list[list[str]] = [[] for _ in columns]
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in columns:
            if header.count(name) != 1:
                said = ", ".join(map(repr, header[:20]))
                raise FileError(f"{path} has {header.count(name) or 'no'} columns {name!r}. Its columns are {said}.", path)
        places = [header.index(name) for name in columns]
        for row in reader:
            if row and len(row) != len(header):
                remedy = "Check the delimiter and the quotes of that line."
                raise FileError(
                    f"{path}, line {reader.line_num} has {len(row)} cells, and the header {len(header)}. {remedy}", path
                )
            for cells, place in zip(made, places if row else (), strict=bool(row)):
                cells.append(row[place])
    except csv.Error as error:
        raise FileError(f"{path}, line {reader.line_num}: {error}. Check the quotes there, or export it anew.", path) from error
    return made
