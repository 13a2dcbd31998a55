"""Tables in parquet files: into memory, or larger than memory through a file beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.arrow import pyarrow
from torchflow.data.readers.columns import Row, Table
from torchflow.data.readers.csv_lines import MAX_COLUMNS, check_size
from torchflow.data.readers.pairs import Pairs, pairs, refuse_moments
from torchflow.data.readers.parquet_file import Parquet, open_parquet
from torchflow.data.readers.parquet_table import ParquetTable
from torchflow.data.readers.schema import checked_dtype, chosen_columns, refuse_others, schema_of
from torchflow.data.readers.spilled import spilled
from torchflow.data.readers.table_files import Paths, Places, table_files, table_of_files
from torchflow.data.schema import Schema
from torchflow.data.sources import Source
from torchflow.errors import TableError

SUFFIXES = (".parquet", ".pq")
MAX_MEMORY = 2**30


@overload
def from_parquet(
    path: Paths,
    *,
    target: str | Sequence[str],
    features: Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_MEMORY,
    max_columns: int = MAX_COLUMNS,
) -> Dataset[tuple[Tensor, Tensor]]: ...


@overload
def from_parquet(
    path: Paths,
    *,
    target: None = None,
    features: Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_MEMORY,
    max_columns: int = MAX_COLUMNS,
) -> Dataset[Row]: ...


def from_parquet(
    path: Paths,
    *,
    target: str | Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_MEMORY,
    max_columns: int = MAX_COLUMNS,
) -> Dataset[Any]:
    """Return the dataset of a parquet file or several, of which only the needed columns are read.

    A table that fits is read into memory. One that does not is decoded once, a few thousand rows at a time, into an Arrow file
    in the folder ``cache``, which is mapped into memory: a shuffled batch then costs the same however large the table is, and
    later runs find the folder and decode nothing. It is made anew when a parquet file has another size or time.

    Several files are one table, their rows in the order of the files: all have the same columns, whose order may differ, or at
    least those that ``features`` and ``target`` name. A column that is of whole numbers in one file and of others in another, as
    pandas writes one with gaps, is of numbers; other kinds that differ are an error. No window of
    :meth:`torchflow.data.Dataset.windows` spans two files. A file that cannot be read is an error: leave it out of the list.

    Args:
        path: A file; a list of files; or a folder, of which the files in ``.parquet`` and ``.pq`` are taken in the order of their
            names. A folder whose folders are called ``year=2024`` is refused, for the files do not hold that column.
        target: The column to learn, or several; None for samples that are rows.
        features: The columns to learn from, or without a target those to read; None is all others, in the first file's order.
        cache: A folder for the decoded table, on a disk with room for all of it; None is in memory.
        dtype: The dtype of x and y.
        max_bytes: The largest table, decoded, that is read into memory.
        max_columns: The widest table that is read.

    Returns:
        With a target, samples ``(x, y)`` of shapes (features,) and (targets,). Without, rows as of
        :func:`torchflow.data.from_csv`; ``dataset.schema`` names the columns.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        FileError: A file is not there, no parquet file or damaged, or they are larger than ``max_bytes``.
        TableError: A column is missing, is of another kind in another file, or holds what is no number, date or text; with a target
            also not of numbers, or with gaps.
        MissingExtraError: pyarrow is not installed.
    """
    kind = checked_dtype(dtype)
    limit = arguments.whole("max_bytes", max_bytes)
    most = arguments.whole("max_columns", max_columns)
    folder = None if cache is None else arguments.path("cache", cache)
    files = table_files(path, "from_parquet", SUFFIXES)
    pyarrow("from_parquet")
    opened = [_opened(Path(file), most) for file in files.paths]
    place = str(opened[0].path)
    schema = None if target is None else schema_of(place, opened[0].names, target, features, dtype=kind)
    chosen = chosen_columns(place, opened[0].names, features) if schema is None else (*schema.features, *schema.target)
    for other in opened[1:]:
        refuse_others(str(other.path), other.names, place, chosen, named=features is not None)
    table = ParquetTable.of([one.only(chosen) for one in opened])
    if not any(table.counts):
        raise TableError(f"{table.place} has no rows. It needs at least one.")
    places = Places(files.paths, table.counts)
    if schema is not None:
        refuse_moments(schema, table.moments, table.place)
    return table_of_files(_source(table, schema, places, folder, limit), files, table.counts)


def _opened(file: Path, max_columns: int) -> Parquet:
    check_size(file, arguments.LARGEST_COUNT)
    return open_parquet(file, max_columns)


def _source(table: ParquetTable, schema: Schema | None, places: Places, folder: Path | None, limit: int) -> Source:
    """Return the rows, or the pairs of a schema: in memory, or from a folder."""
    if folder is not None:
        mapped = spilled(table, folder)
        return mapped if schema is None else Pairs(mapped, schema, places)
    columns = table.columns(limit)
    return Table(columns, "from_parquet", table.moments) if schema is None else pairs(columns, schema, places, "from_parquet")
