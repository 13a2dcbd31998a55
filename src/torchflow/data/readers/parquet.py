"""Tables in parquet files: into memory, or larger than memory through a file beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.arrow import pyarrow
from torchflow.data.readers.columns import Row, Table
from torchflow.data.readers.csv_lines import MAX_COLUMNS, check_size
from torchflow.data.readers.pairs import Pairs, pairs, refuse_moments
from torchflow.data.readers.parquet_file import open_parquet
from torchflow.data.readers.schema import checked_dtype, chosen_columns, schema_of
from torchflow.data.readers.spilled import spilled
from torchflow.errors import TableError

MAX_MEMORY = 2**30


@overload
def from_parquet(
    path: str | os.PathLike[str],
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
    path: str | os.PathLike[str],
    *,
    target: None = None,
    features: Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_MEMORY,
    max_columns: int = MAX_COLUMNS,
) -> Dataset[Row]: ...


def from_parquet(
    path: str | os.PathLike[str],
    *,
    target: str | Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_MEMORY,
    max_columns: int = MAX_COLUMNS,
) -> Dataset[Any]:
    """Return the dataset of a parquet file, of which only the needed columns are read.

    A table that fits is read into memory. One that does not is decoded once, a few thousand rows at a time, into an Arrow file
    in the folder ``cache``, which is mapped into memory: a shuffled batch then costs the same however large the table is, and
    later runs find the folder and decode nothing. It is made anew when the parquet file has another size or time.

    Args:
        path: The file.
        target: The column to learn, or several; None for samples that are rows.
        features: The columns to learn from, or without a target those to read; None is all others, in the file's order.
        cache: A folder for the decoded table, on a disk with room for all of it; None is in memory.
        dtype: The dtype of x and y.
        max_bytes: The largest table, decoded, that is read into memory.
        max_columns: The widest table that is read.

    Returns:
        With a target, samples ``(x, y)`` of shapes (features,) and (targets,). Without, rows as of
        :func:`torchflow.data.from_csv`; ``dataset.schema`` names the columns.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        FileError: The file is not there, no parquet file, damaged, or larger than ``max_bytes``.
        TableError: A column is missing, or holds what is no number, date or text; with a target also not of numbers, or
            with gaps.
        MissingExtraError: pyarrow is not installed.
    """
    file = arguments.path("path", path)
    kind = checked_dtype(dtype)
    limit = arguments.whole("max_bytes", max_bytes)
    folder = None if cache is None else arguments.path("cache", cache)
    pyarrow("from_parquet")
    check_size(file, arguments.LARGEST_COUNT)
    opened = open_parquet(file, arguments.whole("max_columns", max_columns))
    schema = None if target is None else schema_of(str(file), opened.names, target, features, dtype=kind)
    chosen = chosen_columns(str(file), opened.names, features) if schema is None else (*schema.features, *schema.target)
    parquet = opened.only(chosen)
    if not parquet.length:
        raise TableError(f"{file} has no rows. It needs at least one.")
    if schema is not None:
        refuse_moments(schema, parquet.moments, str(file))
    if folder is not None:
        source = spilled(parquet, folder)
        return Dataset(source if schema is None else Pairs(source, schema, str(file)))
    columns = parquet.columns(limit)
    if schema is not None:
        return pairs(columns, schema, str(file), "from_parquet")
    return Dataset(Table(columns, "from_parquet", parquet.moments))
