"""Tables of numbers in text files."""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.schema import checked_dtype, is_gap, schema_of
from torchflow.data.sources import Columns
from torchflow.errors import ArgumentValueError, TableError


def from_csv(
    path: str | os.PathLike[str],
    *,
    target: str | Sequence[str],
    features: Sequence[str] | None = None,
    delimiter: str = ",",
    dtype: torch.dtype = torch.float32,
) -> Dataset[tuple[Tensor, Tensor]]:
    """Return the dataset of a table of numbers with a header line, read into memory once.

    Quoted cells, blank lines and a byte order mark are understood. Columns that are neither feature nor target may
    hold anything.

    Args:
        path: A text file in UTF-8.
        target: The column to learn, or several.
        features: The columns to learn from; None is all others, in the file's order.
        delimiter: What stands between cells, one character.
        dtype: The dtype of the samples; float32 holds whole numbers exactly up to 2^24.

    Returns:
        Samples ``(x, y)`` of shapes (features,) and (targets,); ``dataset.schema`` has the columns' names.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible delimiter, or columns that exclude each other.
        TableError: The file is not there, or is no table of numbers; the message names file, line and column.
    """
    file = arguments.path("path", path)
    kind = checked_dtype(dtype)
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise ArgumentValueError(f"delimiter must be one character, for example ',' or ';', got {arguments.shown(delimiter)}.")
    lines = _rows(file, delimiter)
    _, header = next(lines, (0, []))
    names = [name.strip() for name in header]
    if not any(names):
        raise TableError(f"{file} is empty. It needs a header line with the names of its columns.")
    schema = schema_of(str(file), names, target, features, hint=_delimiter_hint(names, delimiter), dtype=kind)
    wanted = [names.index(name) for name in (*schema.features, *schema.target)]
    numbers = _numbers(file, names, wanted, lines)
    if not len(numbers):
        raise TableError(f"{file} has a header and no rows. It needs at least one line of numbers.")
    table = torch.from_numpy(numbers).type(kind)
    width = len(schema.features)
    return Dataset(Columns((table[:, :width].contiguous(), table[:, width:].contiguous()), "from_csv", schema))


def _rows(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(line number, cells)`` of every line that is not blank."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(_without_nul(file, text), delimiter=delimiter, strict=True)
            for row in reader:
                if any(row):
                    yield reader.line_num, row
    except FileNotFoundError:
        near = ", ".join(sorted(other.name for other in file.parent.glob(f"*{file.suffix}"))[:5]) if file.parent.is_dir() else ""
        there = f" In {file.parent} there is: {near}." if near else f" Check the path; the current folder is {Path.cwd()}."
        raise TableError(f"there is no file {file}.{there}") from None
    except IsADirectoryError:
        raise TableError(f"{file} is a folder. Pass the path of one file in it.") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{file} is not text in UTF-8: {error.reason} at byte {error.start}. Save it as UTF-8.") from error
    except csv.Error as error:
        raise TableError(f"{file}, line {reader.line_num}: {error}. Check the quotes there, or save the file anew.") from error
    except OSError as error:
        raise TableError(f"{file} cannot be read: {error.strerror or error}.") from error


def _without_nul(file: Path, lines: Iterator[str]) -> Iterator[str]:
    """Yield lines, refusing NUL bytes, which some programs write after a crash."""
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise TableError(f"{file}, line {number} holds NUL bytes: the file is damaged or no text. Export it anew.")
        yield line


def _numbers(
    file: Path, names: Sequence[str], wanted: Sequence[int], lines: Iterator[tuple[int, list[str]]]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the wanted columns as float64, shape (rows, wanted)."""
    values = array("d")
    for line, row in lines:
        if len(row) != len(names):
            said = f"{file}, line {line} has {len(row)} cells, and the header has {len(names)}"
            raise TableError(f"{said}. Check the delimiter and the quotes of that line.")
        for column in wanted:
            cell = row[column]
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            if not math.isfinite(value) or "_" in cell:  # float() reads "1_000", which no other program does
                raise TableError(_wrong_cell(file, line, names[column], cell))
            values.append(value)
    return np.frombuffer(values, dtype=np.float64).reshape(-1, len(wanted)).copy()


def _wrong_cell(file: Path, line: int, column: str, cell: str) -> str:
    place = f"{file}, line {line}, column {column!r}"
    if is_gap(cell):
        return f"{place} is a gap ({cell!r}). Fill it in, or leave out that line or column (features=[...])."
    if cell.strip().lower().lstrip("+-") in ("inf", "infinity"):
        return f"{place} is infinite ({cell!r}). Leave out that line or column."
    comma = cell.count(",") == 1 and cell.replace(",", "").strip().lstrip("+-").isdigit()
    remedy = "Write decimals with a point." if comma else "Turn it into a number, or leave out the column (features=[...])."
    return f"{place} is text, not a number: {cell[:40]!r}. {remedy}"


def _delimiter_hint(names: Sequence[str], delimiter: str) -> str:
    other = next((mark for mark in ";\t|," if mark != delimiter and mark in names[0]), None)
    return f" The header holds {other!r}: pass delimiter={other!r}." if len(names) == 1 and other else ""
