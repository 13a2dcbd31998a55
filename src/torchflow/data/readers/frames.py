"""Tables of numbers in memory: pandas, polars, and what looks like them."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.schema import checked_dtype, schema_of
from torchflow.data.sources import Columns
from torchflow.errors import ArgumentTypeError, TableError


class Frame(Protocol):
    """What pandas and polars have in common."""

    @property
    def columns(self) -> Any:
        """The names of the columns."""
        ...

    def __getitem__(self, name: str, /) -> Any:
        """Return a column, which has ``to_numpy()``."""
        ...


def from_frame(
    frame: Frame,
    *,
    target: str | Sequence[str],
    features: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Dataset[tuple[Tensor, Tensor]]:
    """Return the dataset of a table in memory, copied.

    Args:
        frame: A pandas or polars frame, or anything with ``columns`` and columns with ``to_numpy()``.
        target: The column to learn, or several.
        features: The columns to learn from; None is all others, in the table's order.
        dtype: The dtype of the samples.

    Returns:
        Samples ``(x, y)`` of shapes (features,) and (targets,); ``dataset.schema`` has the columns' names.

    Raises:
        ArgumentTypeError: It is no table.
        TableError: A column is missing, double, not of numbers, or has gaps; the message names column and row.
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "__getitem__") or isinstance(frame, type):
        raise ArgumentTypeError(f"frame must be a table such as a pandas DataFrame, got {arguments.shown(frame)}.")
    kind = checked_dtype(dtype)
    names = list(frame.columns)
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise TableError(f"the frame has a column named {arguments.shown(odd[0])}. Name columns by text: frame.columns = [...].")
    schema = schema_of("the frame", names, target, features, dtype=kind)
    x = np.stack([_column(frame, name) for name in schema.features], axis=1)
    y = np.stack([_column(frame, name) for name in schema.target], axis=1)
    if not len(x):
        raise TableError("the frame has no rows. It needs at least one.")
    return Dataset(Columns((torch.from_numpy(x).type(kind), torch.from_numpy(y).type(kind)), "from_frame", schema))


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
    if value is None or isinstance(value, numbers.Real) or type(value).__name__ in ("NAType", "NaTType"):
        return f"{place} is a gap ({value}). Fill it, or drop it: frame.dropna()."
    return f"{place} is no number: {arguments.shown(value)}. Turn it into numbers first."
