"""Columns out of Arrow's, which pandas, polars, duckdb and parquet files hand out."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch

from torchflow.data.readers.columns import EXACT, Column, Text
from torchflow.errors import MissingExtraError, TableError

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 86_400


def pyarrow(what: str) -> Any:
    """Return the module pyarrow.

    Args:
        what: What needs it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise MissingExtraError(f"{what} needs pyarrow, which is not installed: pip install 'torchflow-train[table]'.") from error


def columns_of(table: Any, place: str) -> tuple[dict[str, Column], list[str]]:
    """Return the columns of an Arrow table, and the names of those that hold dates.

    Truth values become bool, whole numbers int64, or float64 with NaN where there are gaps; float16 and float32 become
    float32, other numbers float64; dates seconds since 1970, times seconds of the day, durations seconds; texts and
    categories :class:`Text`. Whole numbers beside gaps that float64 cannot hold become texts.

    Args:
        table: A ``pyarrow.Table``.
        place: What the messages call it.

    Raises:
        TableError: A column holds lists, bytes or other values that are no cells.
    """
    made: dict[str, Column] = {}
    moments = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        if not hasattr(column, "type") or hasattr(
            column, "num_chunks"
        ):  # a column that is too large for one chunk stays in several
            raise TableError(f"column {name!r} of {place} is too large. Read it with from_parquet(..., cache='folder').")
        made[name] = column_of(column, name, place)
        if is_moment(column.type):
            moments.append(name)
    return made, moments


def column_of(array: Any, name: str, place: str) -> Column:
    """Return the column of one Arrow array; see :func:`columns_of`."""
    types = importlib.import_module("pyarrow.types")
    kind = array.type
    if types.is_dictionary(kind) and not is_text(kind.value_type):
        array = array.dictionary_decode()
        kind = array.type
    if types.is_dictionary(kind):
        return _categories(array)
    if is_text(kind):
        return _categories(array.cast("large_string").dictionary_encode())
    if types.is_boolean(kind) or types.is_integer(kind):
        return _wholes(array)
    return torch.from_numpy(np.array(numbers_of(array, name, place), copy=True))


def check_type(kind: Any, name: str, place: str) -> None:
    """Check that a column of an Arrow type can be read.

    Raises:
        TableError: It holds lists, bytes or other values that are no cells.
    """
    types = importlib.import_module("pyarrow.types")
    inner = kind.value_type if types.is_dictionary(kind) else kind
    known = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_temporal, types.is_null, is_text)
    if not any(test(inner) for test in known) or types.is_interval(inner):
        remedy = "Leave it out (features=[...]), or turn it into numbers or texts first."
        raise TableError(f"column {name!r} of {place} holds {kind}, which is no number, date or text. {remedy}")


def is_text(kind: Any) -> bool:
    """Return whether an Arrow type is one of its three of text."""
    types = importlib.import_module("pyarrow.types")
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_moment(kind: Any) -> bool:
    """Return whether an Arrow type is of dates or of dates with times."""
    types = importlib.import_module("pyarrow.types")
    return bool(types.is_date(kind) or types.is_timestamp(kind))


def _categories(array: Any) -> Text:
    """Return the column of a dictionary-encoded array; gaps become the empty text."""
    values = array.dictionary.cast("large_string").to_pylist()
    # A dictionary of another program may hold a text twice, or a gap; each text has one code here.
    known: dict[str, int] = {}
    place = np.array([known.setdefault(value or "", len(known)) for value in values] or [0], dtype=np.int32)
    codes = array.indices.cast("int64").fill_null(-1).to_numpy(zero_copy_only=False)
    gap = known.setdefault("", len(known)) if (codes < 0).any() else -1
    return Text(known, torch.from_numpy(np.where(codes < 0, np.int32(gap), place[codes])))


def _wholes(array: Any) -> Column:
    types = importlib.import_module("pyarrow.types")
    if types.is_boolean(array.type):
        if not array.null_count:
            return torch.from_numpy(np.array(array.to_numpy(zero_copy_only=False), copy=True))
        return torch.from_numpy(np.array(array.cast("int8").cast("float64").to_numpy(zero_copy_only=False), copy=True))
    fits = array.type != "uint64" or not len(array) or _largest(array) < 2**63
    if fits and not array.null_count:
        return torch.from_numpy(np.array(array.cast("int64").to_numpy(), copy=True))
    if not fits or _largest(array) > EXACT:
        return _categories(array.cast("large_string").dictionary_encode())
    return torch.from_numpy(np.array(array.cast("float64").to_numpy(zero_copy_only=False), copy=True))


def _largest(array: Any) -> int:
    """Return the largest absolute value of whole numbers; 0 where all are gaps."""
    extremes = importlib.import_module("pyarrow.compute").min_max(array).as_py()
    return max((abs(value) for value in extremes.values() if value is not None), default=0)


def numbers_of(array: Any, name: str, place: str) -> Any:
    """Return numbers, dates, times and durations as floats, NaN for gaps."""
    types, kind = importlib.import_module("pyarrow.types"), array.type
    check_type(kind, name, place)
    if types.is_floating(kind):
        return array.cast("float64" if kind == "double" else "float32").to_numpy(zero_copy_only=False)
    if types.is_null(kind) or types.is_decimal(kind):
        return array.cast("float64").to_numpy(zero_copy_only=False)
    if kind == "date32[day]":
        return array.cast("int32").cast("float64").to_numpy(zero_copy_only=False) * _DAY
    unit = "ms" if kind == "date64[ms]" else kind.unit
    whole = array.cast("int32" if types.is_time32(kind) else "int64")
    seconds: Any = whole.cast("float64", safe=False).to_numpy(zero_copy_only=False) / _PER_SECOND[unit]
    return seconds
