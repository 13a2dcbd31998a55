"""Tables in text files."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.cells import Growing
from torchflow.data.readers.columns import Row, Table
from torchflow.data.readers.csv_lines import MAX_BYTES, MAX_COLUMNS, TextTable, open_text_tables
from torchflow.data.readers.schema import GAPS, checked_dtype, chosen_columns, is_gap, refuse_others, schema_of
from torchflow.data.readers.table_files import Paths, place_of, table_files, table_of_files
from torchflow.data.sources import Columns
from torchflow.errors import ArgumentTypeError, TableError

SUFFIXES = (".csv", ".tsv")
_CELLS_AT_ONCE = 2**17  # cells that are in memory as Python texts


@overload
def from_csv(
    path: Paths,
    *,
    target: str | Sequence[str],
    features: Sequence[str] | None = None,
    delimiter: str = ",",
    gaps: Collection[str] = GAPS,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_BYTES,
    max_columns: int = MAX_COLUMNS,
) -> Dataset[tuple[Tensor, Tensor]]: ...


@overload
def from_csv(
    path: Paths,
    *,
    target: None = None,
    features: Sequence[str] | None = None,
    delimiter: str = ",",
    gaps: Collection[str] = GAPS,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_BYTES,
    max_columns: int = MAX_COLUMNS,
) -> Dataset[Row]: ...


def from_csv(
    path: Paths,
    *,
    target: str | Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    delimiter: str = ",",
    gaps: Collection[str] = GAPS,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_BYTES,
    max_columns: int = MAX_COLUMNS,
) -> Dataset[Any]:
    """Return the dataset of a table with a header line, read into memory once.

    Quoted cells, blank lines and a byte order mark are understood. With a ``target``, features and target are numbers and
    the samples are pairs; other columns may hold anything. Without one the samples are the rows, for
    :class:`torchflow.data.TableEncoder` to make numbers of: a column is true or false, of whole numbers, of numbers or of
    dates (``2024-05-31``, with a time or without) where all its cells are, gaps left out, and of texts otherwise.

    Several files are one table, their rows in the order of the files: all have the same columns, whose order may differ, or at
    least those that ``features`` and ``target`` name. No window of :meth:`torchflow.data.Dataset.windows` spans two files. A file
    that cannot be read is an error: leave it out of the list.

    Args:
        path: A text file in UTF-8; a list of them; or a folder, of which the files in ``.csv`` and ``.tsv`` are taken in the order of
            their names.
        target: The column to learn, or several; None for samples that are rows.
        features: The columns to learn from, or without a target those to read; None is all others, in the first file's order.
        delimiter: What stands between cells, one character.
        gaps: The cells that stand for a missing value, in small letters, where the samples are rows.
        dtype: The dtype of x and y; float32 holds whole numbers exactly up to 2^24.
        max_bytes: The most bytes that are read, of all files together.
        max_columns: The widest table that is read.

    Returns:
        With a target, samples ``(x, y)`` of shapes (features,) and (targets,). Without, samples are dicts by column: tensors
        of shape () in bool, int64 or float64, NaN for gaps, dates in seconds since 1970 (UTC), and texts, ``""`` for gaps.
        ``dataset.schema`` names the columns.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible delimiter, or columns that exclude each other.
        FileError: A file is not there or no text, or they are too large.
        TableError: It is no such table, or files have other columns; the message names file, line and column.
    """
    kind = checked_dtype(dtype)
    files = table_files(path, "from_csv", SUFFIXES)
    tables = open_text_tables(files.paths, delimiter, max_bytes, max_columns)
    first = tables[0]
    if target is None:
        rows, counts = _rows(tables, features, _checked_gaps(gaps))
        return table_of_files(rows, files, counts)
    schema = schema_of(str(first.file), first.names, target, features, hint=first.delimiter_hint, dtype=kind)
    wanted = (*schema.features, *schema.target)
    _agree(tables, wanted, named=features is not None)
    numbers, counts = _numbers(tables, wanted)
    made = torch.from_numpy(numbers).type(kind)
    width = len(schema.features)
    return table_of_files(Columns((made[:, :width].contiguous(), made[:, width:].contiguous()), "from_csv", schema), files, counts)


def _agree(tables: Sequence[TextTable], columns: Sequence[str], *, named: bool) -> None:
    """Refuse tables whose columns are not those of the first."""
    for table in tables[1:]:
        refuse_others(str(table.file), table.names, str(tables[0].file), columns, named=named, hint=table.delimiter_hint)


def _rows(tables: Sequence[TextTable], features: Sequence[str] | None, gaps: frozenset[str]) -> tuple[Table, list[int]]:
    """Return all rows, and how many each table has."""
    first = tables[0]
    if first.delimiter_hint:
        raise TableError(f"{first.file} has one column.{first.delimiter_hint}")
    chosen = chosen_columns(str(first.file), first.names, features)
    _agree(tables, chosen, named=features is not None)
    growing = {name: Growing(gaps) for name in chosen}
    counts = [_read_into(table, growing) for table in tables]
    _refuse_no_rows(tables, counts)
    for column in growing.values():
        column.finish()
    late = {name: Growing(gaps, text=True) for name, column in growing.items() if column.incomplete}
    if late:  # texts that looked like numbers for a while: once more, for them alone
        for table in tables:
            _read_into(table, late)
    made = {name: late.get(name, column).column() for name, column in growing.items()}
    moments = [name for name, (_, dates) in made.items() if dates]
    return Table({name: column for name, (column, _) in made.items()}, "from_csv", moments, guessed=True), counts


def _read_into(table: TextTable, columns: Mapping[str, Growing]) -> int:
    """Add the cells of every line to columns; return how many lines there are."""
    places = [table.names.index(name) for name in columns]
    rows, count = table.rows(), 0
    lines = max(1, _CELLS_AT_ONCE // len(table.names))
    while chunk := list(islice(rows, lines)):
        count += len(chunk)
        for place, column in zip(places, columns.values(), strict=True):
            column.extend([row[place].strip() for _, row in chunk])
    return count


def _numbers(
    tables: Sequence[TextTable], wanted: Sequence[str]
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], list[int]]:
    """Return the wanted columns as float64, shape (rows, wanted), and how many rows each table has."""
    values = array("d")
    ends = [0]
    for table in tables:
        _add_numbers(values, table, [table.names.index(name) for name in wanted])
        ends.append(len(values) // len(wanted))
    counts = [end - begin for begin, end in pairwise(ends)]
    _refuse_no_rows(tables, counts)
    return np.frombuffer(values, dtype=np.float64).reshape(-1, len(wanted)).copy(), counts


def _add_numbers(values: array[float], table: TextTable, places: Sequence[int]) -> None:
    """Add the cells at some places of every line."""
    for line, row in table.rows():
        for column in places:
            cell = row[column]
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            if not math.isfinite(value) or "_" in cell:  # float() reads "1_000", which no other program does
                raise TableError(_wrong_cell(table.file, line, table.names[column], cell))
            values.append(value)


def _wrong_cell(file: Path, line: int, column: str, cell: str) -> str:
    place = f"{file}, line {line}, column {column!r}"
    encoder = "read the table without target= and fit a TableEncoder"
    if is_gap(cell):
        return f"{place} is a gap ({cell!r}). Fill it in, leave out that line or column (features=[...]), or {encoder}."
    if cell.strip().lower().lstrip("+-") in ("inf", "infinity"):
        return f"{place} is infinite ({cell!r}). Leave out that line or column."
    comma = cell.count(",") == 1 and cell.replace(",", "").strip().lstrip("+-").isdigit()
    remedy = f"Turn it into a number, leave out the column (features=[...]), or {encoder}."
    return f"{place} is text, not a number: {cell[:40]!r}. {'Write decimals with a point.' if comma else remedy}"


def _refuse_no_rows(tables: Sequence[TextTable], counts: Sequence[int]) -> None:
    if not any(counts):
        place = place_of([table.file for table in tables])
        raise TableError(f"{place} has a header and no rows. It needs at least one line of cells.")


def _checked_gaps(gaps: object) -> frozenset[str]:
    if isinstance(gaps, str) or not isinstance(gaps, Collection) or not all(isinstance(gap, str) for gap in gaps):
        raise ArgumentTypeError(f"gaps must be a list of texts such as ['', 'na'], got {arguments.shown(gaps)}.")
    return frozenset(gap.lower() for gap in gaps)
