"""Tables in memory: pandas, polars, duckdb, pyarrow, and what looks like them."""

from __future__ import annotations

import importlib.util
import numbers
from collections.abc import Sequence
from typing import Any, Protocol, overload

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.arrow import columns_of, pyarrow
from torchflow.data.readers.columns import Column, Row, Table, Text
from torchflow.data.readers.objects import column_of_objects, is_object_gap
from torchflow.data.readers.pairs import pairs, refuse_moments
from torchflow.data.readers.schema import checked_dtype, chosen_columns, schema_of
from torchflow.data.readers.table_files import Places
from torchflow.data.sources import Columns
from torchflow.errors import ArgumentTypeError, TableError

_PLACE = "the frame"


class Frame(Protocol):
    """What pandas and polars have in common."""

    @property
    def columns(self) -> Any:
        """The names of the columns."""
        ...

    def __getitem__(self, name: str, /) -> Any:
        """Return a column, which has ``to_numpy()``."""
        ...


class ArrowStream(Protocol):
    """A table that hands itself out as Arrow does (the PyCapsule interface)."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """Return a capsule of the table's stream."""
        ...


@overload
def from_frame(
    frame: Frame | ArrowStream,
    *,
    target: str | Sequence[str],
    features: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset[tuple[Tensor, Tensor]]: ...


@overload
def from_frame(
    frame: Frame | ArrowStream, *, target: None = None, features: Sequence[str] | None = None, dtype: torch.dtype = torch.float32
) -> Dataset[Row]: ...


def from_frame(
    frame: Frame | ArrowStream,
    *,
    target: str | Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset[Any]:
    """Return the dataset of a table in memory, copied.

    Args:
        frame: A frame of pandas or polars, a relation of duckdb, a table of pyarrow, or anything else with Arrow's
            ``__arrow_c_stream__``, or with ``columns`` and columns with ``to_numpy()``. A lazy frame is collected first.
        target: The column to learn, or several; None for samples that are rows.
        features: The columns to learn from, or without a target those to read; None is all others, in the table's order.
        dtype: The dtype of x and y.

    Returns:
        With a target, samples ``(x, y)`` of shapes (features,) and (targets,). Without, rows as of
        :func:`torchflow.data.from_csv`; ``dataset.schema`` names the columns.

    Raises:
        ArgumentTypeError: It is no table.
        TableError: A column is missing, double or of no numbers, dates or texts; with a target also not of numbers, or
            with gaps. The message names column and row.
        MissingExtraError: The table hands out nothing but Arrow, and pyarrow is not installed.
    """
    kind = checked_dtype(dtype)
    if isinstance(frame, type) or not (_looks_like_a_frame(frame) or hasattr(frame, "__arrow_c_stream__") or _is_lazy(frame)):
        raise ArgumentTypeError(f"frame must be a table such as a pandas DataFrame, got {arguments.shown(frame)}.")
    table: Any = frame
    if _is_lazy(table):
        table = table.collect()
    names = _names(table)
    if target is not None and _looks_like_a_frame(table):
        return _numbers(table, names, target, features, kind)
    if target is not None:
        schema = schema_of(_PLACE, names, target, features, dtype=kind)
        columns, moments = _columns(table, (*schema.features, *schema.target))
        refuse_moments(schema, moments, _PLACE)
        return Dataset(pairs(_with_rows(columns), schema, Places((_PLACE,)), "from_frame"))
    columns, moments = _columns(table, chosen_columns(_PLACE, names, features))
    return Dataset(Table(_with_rows(columns), "from_frame", moments))


def _looks_like_a_frame(frame: object) -> bool:
    """Return whether it has named columns that NumPy can read."""
    if isinstance(frame, type) or _is_lazy(frame) or not hasattr(frame, "columns") or not hasattr(frame, "__getitem__"):
        return False
    named = not hasattr(frame, "column_names")  # those of pyarrow are called so, and its columns are the columns themselves
    return named and (not hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "to_numpy"))


def _is_lazy(frame: object) -> bool:
    return not isinstance(frame, type) and callable(getattr(frame, "collect", None)) and hasattr(frame, "collect_schema")


def _names(table: Any) -> list[str]:
    """Return the names of the columns, which must be texts."""
    listed: Any = getattr(table, "column_names", None)
    if listed is None:
        listed = getattr(table, "columns", None)
    if listed is None:
        listed = pyarrow("a table without names").table(table).column_names
    names = list(listed)
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise TableError(f"the frame has a column named {arguments.shown(odd[0])}. Name columns by text: frame.columns = [...].")
    return names


def _with_rows(columns: dict[str, Column]) -> dict[str, Column]:
    if not len(next(iter(columns.values()))):
        raise TableError("the frame has no rows. It needs at least one.")
    return columns


def _numbers(
    frame: Any, names: Sequence[str], target: object, features: object, kind: torch.dtype
) -> Dataset[tuple[Tensor, Tensor]]:
    """Return the pairs of a frame whose columns NumPy can read."""
    schema = schema_of(_PLACE, names, target, features, dtype=kind)
    x = np.stack([_column(frame, name) for name in schema.features], axis=1)
    y = np.stack([_column(frame, name) for name in schema.target], axis=1)
    if not len(x):
        raise TableError("the frame has no rows. It needs at least one.")
    return Dataset(Columns((torch.from_numpy(x).type(kind), torch.from_numpy(y).type(kind)), "from_frame", schema))


def _columns(table: Any, names: Sequence[str]) -> tuple[dict[str, Column], list[str]]:
    """Return columns of a table, and the names of those of dates: through Arrow where that can be, and else through NumPy."""
    by_numpy = _looks_like_a_frame(table)
    if hasattr(table, "__arrow_c_stream__") and (not by_numpy or importlib.util.find_spec("pyarrow")):
        arrow = pyarrow("from_frame with this table")
        try:
            return columns_of(arrow.table(table).select(list(names)), _PLACE)
        except arrow.ArrowException as error:
            if not by_numpy:
                raise TableError(f"the frame cannot be read: {error}. Turn its columns into numbers, dates or texts.") from error
            if len(names) > 1:  # objects of which Arrow can make nothing: they alone are read in another way
                parts = [_columns(table[[name]], [name]) for name in names]
                return {name: part[0][name] for name, part in zip(names, parts, strict=True)}, [
                    n for part in parts for n in part[1]
                ]
    made = {name: _any_column(table, name) for name in names}
    return {name: column for name, (column, _) in made.items()}, [name for name, (_, moments) in made.items() if moments]


def _any_column(frame: Any, name: str) -> tuple[Column, bool]:
    """Return one column that NumPy can read, and whether it holds dates."""
    column = frame[name]
    values = np.asarray(column.to_numpy())
    kind = values.dtype.kind
    if kind == "f" and getattr(column.dtype, "kind", "f") in "iu":  # pandas turned gaps among whole numbers into NaN
        values, kind = np.asarray(column.astype(object).to_numpy()), "O"
    if kind in "mM":
        units = values.astype(f"{values.dtype.name.partition('[')[0]}[us]").astype(np.int64)
        return torch.from_numpy(np.where(np.isnat(values), np.nan, units / 1e6)), kind == "M"
    if kind in "bif" or (kind == "u" and values.dtype.itemsize < 8):
        wanted = np.bool_ if kind == "b" else np.int64 if kind in "iu" else np.float64 if values.dtype.itemsize > 4 else np.float32
        return torch.from_numpy(np.array(values, dtype=wanted)), False
    if kind in "UT":
        return Text.of(values.tolist()), False
    return column_of_objects(values.tolist(), lambda row: f"column {name!r} of the frame, row {row},")


def _column(frame: Frame, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return one column as finite float64, shape (rows,)."""
    values = np.asarray(frame[name].to_numpy())
    if values.ndim != 1 or values.dtype.kind not in "biufO":
        remedy = "Turn it into numbers first, or leave it out (features=[...])."
        raise TableError(f"column {name!r} of the frame holds {values.dtype}, not numbers. {remedy}")
    if values.dtype.kind == "O":
        for row, value in enumerate(values):
            if not isinstance(value, numbers.Real):
                raise TableError(_wrong(name, row, value))
    made: np.ndarray[tuple[int], np.dtype[np.float64]] = values.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(made))
    if wrong.size:
        raise TableError(_wrong(name, int(wrong[0]), values[wrong[0]]))
    return made


def _wrong(name: str, row: int, value: object) -> str:
    place = f"column {name!r} of the frame, row {row},"
    if isinstance(value, str):
        return f"{place} is text, not a number: {value[:40]!r}. Turn it into numbers first, or leave it out (features=[...])."
    if isinstance(value, numbers.Real) and np.isinf(float(value)):
        return f"{place} is infinite. Leave out that row or column."
    if is_object_gap(value) or isinstance(value, numbers.Real):
        return f"{place} is a gap ({value}). Fill it, or drop it: frame.dropna()."
    return f"{place} is no number: {arguments.shown(value)}. Turn it into numbers first."
