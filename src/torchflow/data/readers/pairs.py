"""Columns of numbers, stacked to pairs of what is learnt from and what is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchflow.data.collate import rows
from torchflow.data.dataset import Dataset
from torchflow.data.draw import Draw
from torchflow.data.readers.columns import MOMENT, Column, Text
from torchflow.data.readers.schema import is_gap
from torchflow.data.schema import Schema
from torchflow.data.sources import Columns, Source
from torchflow.errors import TableError

_ENCODER = "read the table without target= and fit a TableEncoder"


def pairs(
    columns: Mapping[str, Column], schema: Schema, place: str, lineage: str, numbers: Sequence[int] | None = None
) -> Dataset[tuple[Tensor, Tensor]]:
    """Return the dataset of samples ``(x, y)`` of shapes (features,) and (targets,).

    Args:
        columns: By name.
        schema: Which are features and which targets, and the dtype.
        place: What the messages call the table.
        lineage: The factory's name.
        numbers: What the messages call each row; None is its index.

    Raises:
        TableError: A column is not of numbers, or has a gap or an infinite number; the message names column and row.
    """
    x, y = (_stacked(columns, field.columns, field.dtype, place, numbers) for field in schema.fields)
    return Dataset(Columns((x, y), lineage, schema))


class Pairs(Source):
    """Samples ``(x, y)`` of a table that is not in memory, stacked as they are read.

    Args:
        parent: A table: its batches are dicts of columns.
        schema: Which columns are features and which targets, and the dtype.
        place: What the messages call the table.
    """

    def __init__(self, parent: Source, schema: Schema, place: str) -> None:
        self.parents = (parent,)
        self.schema: Schema = schema
        self._place = place

    @property
    def length(self) -> int:
        """How many rows there are."""
        return self.parents[0].length

    @property
    def lineage(self) -> str:
        """The parent's."""
        return self.parents[0].lineage

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return x (batch, features) and y (batch, targets)."""
        columns: Mapping[str, Any] = self.parents[0].batch(indices, draw)
        return tuple(_stacked(columns, field.columns, field.dtype, self._place, indices) for field in self.schema.fields)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the pairs one by one."""
        return rows(self.batch(indices, draw), len(indices))


def _stacked(
    columns: Mapping[str, Any],
    names: Sequence[str],
    dtype: torch.dtype | None,
    place: str,
    indices: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """Return columns as one tensor (rows, columns), after checking that all of it is finite numbers."""
    return torch.stack([_checked(columns[name], name, place, indices).type(dtype or torch.float32) for name in names], dim=1)


def _checked(column: Any, name: str, place: str, indices: Tensor | Sequence[int] | None) -> Tensor:
    """Return a column of finite numbers as float64."""
    if isinstance(column, (Text, list)):
        cells = column.take(torch.arange(len(column))) if isinstance(column, Text) else column
        row = next((row for row, cell in enumerate(cells) if not is_gap(cell)), 0)
        found = f"holds texts, row {_row(row, indices)} {cells[row][:40]!r}" if cells else "holds texts"
        raise TableError(f"column {name!r} of {place} {found}, not numbers. Leave it out (features=[...]), or {_ENCODER}.")
    values: Tensor = column.type(torch.float64)
    wrong = (~values.isfinite()).nonzero()
    if len(wrong):
        row = int(wrong[0])
        where = f"column {name!r} of {place}, row {_row(row, indices)},"
        if values[row].isnan():
            raise TableError(f"{where} is a gap (nan). Fill it, leave it out, or {_ENCODER}.")
        raise TableError(f"{where} is infinite. Leave out that row or column.")
    return values


def _row(row: int, indices: Tensor | Sequence[int] | None) -> int:
    return row if indices is None else int(indices[row])


def refuse_moments(schema: Schema, moments: Sequence[str], place: str) -> None:
    """Refuse dates where numbers are wanted.

    Raises:
        TableError: A feature or target holds dates.
    """
    name = next((name for name in (*schema.features, *schema.target) if name in moments), None)
    if name is not None:
        remedy = f"Turn it into numbers first, leave it out (features=[...]), or {_ENCODER}."
        raise TableError(f"column {name!r} of {place} holds dates ({MOMENT}), not numbers. {remedy}")
