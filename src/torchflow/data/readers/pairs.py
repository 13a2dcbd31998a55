"""Columns of numbers, stacked to pairs of what is learnt from and what is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchflow.data.collate import rows
from torchflow.data.draw import Draw
from torchflow.data.readers.columns import MOMENT, Column, Text
from torchflow.data.readers.schema import is_gap
from torchflow.data.readers.table_files import Places
from torchflow.data.schema import Schema
from torchflow.data.sources import Columns, Source
from torchflow.errors import TableError

_ENCODER = "read the table without target= and fit a TableEncoder"


def pairs(columns: Mapping[str, Column], schema: Schema, places: Places, lineage: str) -> Columns:
    """Return the source of samples ``(x, y)`` of shapes (features,) and (targets,).

    Args:
        columns: By name.
        schema: Which are features and which targets, and the dtype.
        places: What the messages call the rows.
        lineage: The factory's name.

    Raises:
        TableError: A column is not of numbers, or has a gap or an infinite number; the message names column and row.
    """
    x, y = (_stacked(columns, field.columns, field.dtype, places) for field in schema.fields)
    return Columns((x, y), lineage, schema)


class Pairs(Source):
    """Samples ``(x, y)`` of a table that is not in memory, stacked as they are read.

    Args:
        parent: A table: its batches are dicts of columns.
        schema: Which columns are features and which targets, and the dtype.
        places: What the messages call the rows.
    """

    def __init__(self, parent: Source, schema: Schema, places: Places) -> None:
        self.parents = (parent,)
        self.schema: Schema = schema
        self._places = places

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
        return tuple(_stacked(columns, field.columns, field.dtype, self._places, indices) for field in self.schema.fields)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the pairs one by one."""
        return rows(self.batch(indices, draw), len(indices))


def _stacked(
    columns: Mapping[str, Any],
    names: Sequence[str],
    dtype: torch.dtype | None,
    places: Places,
    indices: Tensor | None = None,
) -> Tensor:
    """Return columns as one tensor (rows, columns), after checking that all of it is finite numbers."""
    return torch.stack([_checked(columns[name], name, places, indices).type(dtype or torch.float32) for name in names], dim=1)


def _checked(column: Any, name: str, places: Places, indices: Tensor | None) -> Tensor:
    """Return a column of finite numbers as float64."""
    if isinstance(column, (Text, list)):
        cells = column.take(torch.arange(len(column))) if isinstance(column, Text) else column
        row = next((row for row, cell in enumerate(cells) if not is_gap(cell)), 0)
        place, number = places.of(_row(row, indices))
        found = f"holds texts, row {number} {cells[row][:40]!r}" if cells else "holds texts"
        raise TableError(f"column {name!r} of {place} {found}, not numbers. Leave it out (features=[...]), or {_ENCODER}.")
    values: Tensor = column.type(torch.float64)
    wrong = (~values.isfinite()).nonzero()
    if len(wrong):
        row = int(wrong[0])
        place, number = places.of(_row(row, indices))
        where = f"column {name!r} of {place}, row {number},"
        if values[row].isnan():
            raise TableError(f"{where} is a gap (nan). Fill it, leave it out, or {_ENCODER}.")
        raise TableError(f"{where} is infinite. Leave out that row or column.")
    return values


def _row(row: int, indices: Tensor | None) -> int:
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
