"""Tables in text files."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.cells import Growing
from torchflow.data.readers.columns import Column, Row, Table
from torchflow.data.readers.csv_lines import MAX_BYTES, MAX_COLUMNS, TextTable, open_text_table
from torchflow.data.readers.schema import GAPS, checked_dtype, chosen_columns, is_gap, schema_of
from torchflow.data.sources import Columns
from torchflow.errors import ArgumentTypeError, TableError

_CELLS_AT_ONCE = 2**17  # cells that are in memory as Python texts


@overload
def from_csv(
    path: str | os.PathLike[str],
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
    path: str | os.PathLike[str],
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
    path: str | os.PathLike[str],
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

    Args:
        path: A text file in UTF-8.
        target: The column to learn, or several; None for samples that are rows.
        features: The columns to learn from, or without a target those to read; None is all others, in the file's order.
        delimiter: What stands between cells, one character.
        gaps: The cells that stand for a missing value, in small letters, where the samples are rows.
        dtype: The dtype of x and y; float32 holds whole numbers exactly up to 2^24.
        max_bytes: The largest file that is read.
        max_columns: The widest table that is read.

    Returns:
        With a target, samples ``(x, y)`` of shapes (features,) and (targets,). Without, samples are dicts by column: tensors
        of shape () in bool, int64 or float64, NaN for gaps, dates in seconds since 1970 (UTC), and texts, ``""`` for gaps.
        ``dataset.schema`` names the columns.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible delimiter, or columns that exclude each other.
        FileError: The file is not there, too large, or no text.
        TableError: It is no such table; the message names file, line and column.
    """
    file = arguments.path("path", path)
    kind = checked_dtype(dtype)
    table = open_text_table(file, delimiter, max_bytes, max_columns)
    if target is None:
        columns, moments = _columns(table, features, _checked_gaps(gaps))
        return Dataset(Table(columns, "from_csv", moments, guessed=True))
    schema = schema_of(str(file), table.names, target, features, hint=table.delimiter_hint, dtype=kind)
    wanted = [table.names.index(name) for name in (*schema.features, *schema.target)]
    numbers = _numbers(table, wanted)
    if not len(numbers):
        raise _no_rows(file)
    made = torch.from_numpy(numbers).type(kind)
    width = len(schema.features)
    return Dataset(Columns((made[:, :width].contiguous(), made[:, width:].contiguous()), "from_csv", schema))


def _columns(table: TextTable, features: Sequence[str] | None, gaps: frozenset[str]) -> tuple[dict[str, Column], list[str]]:
    """Return the columns of all cells, and the names of those that hold dates."""
    if table.delimiter_hint:
        raise TableError(f"{table.file} has one column.{table.delimiter_hint}")
    chosen = chosen_columns(str(table.file), table.names, features)
    places = [table.names.index(name) for name in chosen]
    growing = [Growing(gaps) for _ in places]
    if not _read_into(table, places, growing):
        raise _no_rows(table.file)
    for column in growing:
        column.finish()
    late = [place for place, column in enumerate(growing) if column.incomplete]
    if late:  # texts that looked like numbers for a while: once more, for them alone
        again = [Growing(gaps, text=True) for _ in late]
        _read_into(table, [places[place] for place in late], again)
        for place, column in zip(late, again, strict=True):
            growing[place] = column
    made = {name: column.column() for name, column in zip(chosen, growing, strict=True)}
    return {name: column for name, (column, _) in made.items()}, [name for name, (_, moments) in made.items() if moments]


def _read_into(table: TextTable, places: Sequence[int], columns: Sequence[Growing]) -> int:
    """Add the cells at some places of every line to columns; return how many lines there are."""
    rows, count = table.rows(), 0
    lines = max(1, _CELLS_AT_ONCE // len(table.names))
    while chunk := list(islice(rows, lines)):
        count += len(chunk)
        for place, column in zip(places, columns, strict=True):
            column.extend([row[place].strip() for _, row in chunk])
    return count


def _numbers(table: TextTable, wanted: Sequence[int]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the wanted columns as float64, shape (rows, wanted)."""
    values = array("d")
    for line, row in table.rows():
        for column in wanted:
            cell = row[column]
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            if not math.isfinite(value) or "_" in cell:  # float() reads "1_000", which no other program does
                raise TableError(_wrong_cell(table.file, line, table.names[column], cell))
            values.append(value)
    return np.frombuffer(values, dtype=np.float64).reshape(-1, len(wanted)).copy()


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


def _no_rows(file: Path) -> TableError:
    return TableError(f"{file} has a header and no rows. It needs at least one line of cells.")


def _checked_gaps(gaps: object) -> frozenset[str]:
    if isinstance(gaps, str) or not isinstance(gaps, Collection) or not all(isinstance(gap, str) for gap in gaps):
        raise ArgumentTypeError(f"gaps must be a list of texts such as ['', 'na'], got {arguments.shown(gaps)}.")
    return frozenset(gap.lower() for gap in gaps)
