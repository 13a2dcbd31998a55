"""Tables in workbooks: .xlsx, .xls, .xlsb and .ods, parsed in a child process of bounded memory and time."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.child import rows_of_child
from torchflow.data.readers.columns import Row, Table
from torchflow.data.readers.csv_lines import check_size
from torchflow.data.readers.pairs import pairs, refuse_moments
from torchflow.data.readers.schema import checked_dtype, chosen_columns, schema_of
from torchflow.data.readers.sheets import Sheet, checked_area, table_of
from torchflow.data.readers.table_files import Places
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError, MissingExtraError

MAX_BYTES = 2**29
MAX_CELLS = 10_000_000
MAX_SECONDS = 10.0
_CELLS = "torchflow.data.readers.workbook_cells"


@overload
def from_excel(
    path: str | os.PathLike[str],
    *,
    sheet: str | int | Sequence[str | int] | None = 0,
    header: int | None = None,
    cells: str | None = None,
    sheet_column: str | None = None,
    target: str | Sequence[str],
    features: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_BYTES,
    max_cells: int = MAX_CELLS,
    max_seconds: float = MAX_SECONDS,
) -> Dataset[tuple[Tensor, Tensor]]: ...


@overload
def from_excel(
    path: str | os.PathLike[str],
    *,
    sheet: str | int | Sequence[str | int] | None = 0,
    header: int | None = None,
    cells: str | None = None,
    sheet_column: str | None = None,
    target: None = None,
    features: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_BYTES,
    max_cells: int = MAX_CELLS,
    max_seconds: float = MAX_SECONDS,
) -> Dataset[Row]: ...


def from_excel(
    path: str | os.PathLike[str],
    *,
    sheet: str | int | Sequence[str | int] | None = 0,
    header: int | None = None,
    cells: str | None = None,
    sheet_column: str | None = None,
    target: str | Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_BYTES,
    max_cells: int = MAX_CELLS,
    max_seconds: float = MAX_SECONDS,
) -> Dataset[Any]:
    """Return the dataset of a table in a workbook, read into memory once: .xlsx, .xls, .xlsb and .ods, told apart by content.

    The workbook is parsed in a child process with at most 2 GiB of memory. Empty rows are left out, empty cells and errors such
    as ``#N/A`` are gaps, and a formula has the value that was stored with it: a gap where none was. Every number of a workbook is
    a float64, so whole numbers above 2^53 have lost digits before they get here: store identifiers as texts. A column is of
    numbers or of dates where all its cells are, and of texts where they differ.

    Args:
        path: The workbook.
        sheet: A sheet's name, or its position from 0; several for sheets with equal headers, one below the other; None is all.
        header: The row with the columns' names, as the program numbers it; None is the first that is not empty.
        cells: The part of the sheet that is read, header included, such as ``"B3:F200"`` or ``"B:F"``; None is all.
        sheet_column: The name of a column to add that holds the name of each row's sheet.
        target: The column to learn, or several; None for samples that are rows.
        features: The columns to learn from, or without a target those to read; None is all others, in the sheet's order.
        dtype: The dtype of x and y.
        max_bytes: The largest workbook, unpacked, that is read.
        max_cells: The largest sheet that is read, from its first to its last cell, empty ones included.
        max_seconds: How long the parsing may take.

    Returns:
        With a target, samples ``(x, y)`` of shapes (features,) and (targets,). Without, rows as of
        :func:`torchflow.data.from_csv`; times are seconds of the day and durations seconds. ``dataset.schema`` names the columns.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: Cells that are no range, or a header outside them.
        FileError: The file is not there, no workbook, damaged, has no such sheet, or is beyond a limit; the message names it.
        TableError: It is no table, or has no such column; with a target also gaps, or what is no number.
        MissingExtraError: python-calamine is not installed.
    """
    file = arguments.path("path", path)
    kind = checked_dtype(dtype)
    area = checked_area(cells, header)
    wanted = _checked_sheets(sheet)
    limits = arguments.whole("max_bytes", max_bytes), arguments.whole("max_cells", max_cells)
    seconds = arguments.real("max_seconds", max_seconds, above=0)
    if sheet_column is not None and not isinstance(sheet_column, str):
        raise ArgumentTypeError(f"sheet_column must be a column's name or None, got {arguments.shown(sheet_column)}.")
    if importlib.util.find_spec("python_calamine") is None:
        raise MissingExtraError("from_excel needs python-calamine, which is not installed: pip install 'torchflow-train[excel]'.")
    check_size(file, limits[0])
    table = table_of(file, read_sheets(file, wanted, *limits, seconds), area, sheet_column)
    if target is None:
        chosen = chosen_columns(table.place, table.names, features)
        columns, moments = table.columns(chosen)
        return Dataset(Table(columns, "from_excel", moments))
    schema = schema_of(table.place, table.names, target, features, dtype=kind)
    columns, moments = table.columns((*schema.features, *schema.target))
    refuse_moments(schema, moments, table.place)
    return Dataset(pairs(columns, schema, Places((table.place,), numbers=table.numbers), "from_excel"))


def read_sheets(file: Path, wanted: Sequence[str | int] | None, max_bytes: int, max_cells: int, seconds: float) -> list[Sheet]:
    """Return the cells of sheets, parsed in a child process.

    Raises:
        FileError: The file is no workbook, damaged, has no such sheet, or is beyond a limit.
    """
    unbounded = importlib.util.find_spec("resource") is None  # Windows: no limit of memory, so it is looked at before
    request = [os.fspath(file), None if wanted is None else list(wanted), max_bytes, max_cells]
    hint = "Pass max_seconds= if it is that large."
    made: list[Sheet] = []
    try:
        for part in rows_of_child(_CELLS, "cells", [*request, unbounded], path=str(file), seconds=seconds, hint=hint):
            if isinstance(part, dict):
                made.append(Sheet(part["sheet"], part["first_column"]))
            else:
                made[-1].rows.extend([_cell(value) for value in row] for row in part)
    except FileError as error:
        if "memory" in str(error) and not unbounded:
            _say_why(file, max_cells, seconds)
        raise
    return made


def _say_why(file: Path, max_cells: int, seconds: float) -> None:
    """Look for a cell far away, which costs a library that makes room for everything before it all memory there is.

    Raises:
        FileError: There is one; the message names it.
    """
    for _ in rows_of_child(_CELLS, "far_cells", [os.fspath(file), max_cells], path=str(file), seconds=seconds):
        pass


def _cell(value: Any) -> Any:
    """Return a cell as the child said it."""
    if not isinstance(value, list):
        return value
    kind, said = value
    return datetime.fromisoformat(said) if kind == "d" else timedelta(seconds=said)


def _checked_sheets(sheet: object) -> tuple[str | int, ...] | None:
    if sheet is None:
        return None
    listed = (sheet,) if isinstance(sheet, (str, int)) else sheet
    if not isinstance(listed, Sequence) or any(isinstance(one, bool) or not isinstance(one, (str, int)) for one in listed):
        raise ArgumentTypeError(f"sheet must be a name, a position from 0, or a list of them, got {arguments.shown(sheet)}.")
    if not listed:
        raise ArgumentValueError("sheet names no sheet. Name at least one, or pass sheet=None for all.")
    return tuple(listed)
