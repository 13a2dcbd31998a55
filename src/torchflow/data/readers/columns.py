"""A table in columns: tensors of numbers, and texts by their codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchflow.data.collate import rows
from torchflow.data.draw import Draw
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source

MOMENT = "seconds since 1970"
"""The unit of a column of dates: UTC, as in POSIX time, where a date without a zone is taken as UTC."""
EXACT = 2**53
"""Up to here float64 holds every whole number."""

Row: TypeAlias = dict[str, Any]
"""A sample of a table: cells by the names of their columns, tensors of shape () or texts."""


class Text:
    """A column of texts, each different one kept once; ``""`` is a gap.

    Args:
        values: The different texts.
        codes: For each row the index of its text, shape (rows,), int32 or int64.
    """

    def __init__(self, values: Iterable[str], codes: Tensor) -> None:
        listed = list(values)
        self.values = np.empty(len(listed), dtype=object)
        self.values[:] = listed
        self.codes = codes

    @classmethod
    def of(cls, cells: Sequence[str]) -> Text:
        """Return the column of some cells."""
        known: dict[str, int] = {}
        codes = [known.setdefault(cell, len(known)) for cell in cells]
        return cls(known, torch.tensor(codes, dtype=torch.int32))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, indices: Tensor) -> list[str]:
        """Return the texts of some rows."""
        made: list[str] = self.values[self.codes.index_select(0, indices).numpy()].tolist()
        return made


Column: TypeAlias = Tensor | Text
"""A column in memory: bool, int64, float32 or float64 of shape (rows,), NaN where a float has a gap; or texts."""


class Table(Source):
    """Samples are the rows of a table in memory, as dicts of cells; batches are dicts of columns.

    Args:
        columns: By name, all of one length.
        lineage: The factory's name.
        moments: The names of the columns that hold dates.
        guessed: Whether columns are texts because of some of their cells, and not because somebody said so.
    """

    random = foreign = False
    columnar = True

    def __init__(self, columns: Mapping[str, Column], lineage: str, moments: Iterable[str] = (), guessed: bool = False) -> None:
        self.columns = dict(columns)
        self.schema = schema_of_rows(self.columns, set(moments), guessed)
        self._lineage = lineage
        self._length = len(next(iter(self.columns.values())))

    @property
    def length(self) -> int:
        """How many rows there are."""
        return self._length

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self._lineage

    def batch(self, indices: Tensor, draw: Draw) -> dict[str, Any]:
        """Return a tensor (batch,) or a list of texts for every column."""
        return {
            name: column.take(indices) if isinstance(column, Text) else column.index_select(0, indices)
            for name, column in self.columns.items()
        }

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the rows one by one."""
        return rows(self.batch(indices, draw), len(indices))


def schema_of_rows(columns: Mapping[str, Column], moments: set[str], guessed: bool = False) -> Schema:
    """Return the schema of samples that are dicts of cells: one field a column."""
    return Schema(
        tuple(
            Field(name, (), guessed=guessed)
            if isinstance(column, Text)
            else Field(name, (), column.dtype, MOMENT if name in moments else None)
            for name, column in columns.items()
        )
    )


class Gathering:
    """A table that comes in parts of the same columns, one below the other; numbers beside texts become texts."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[Tensor]] = {}
        self._known: dict[str, dict[str, int]] = {}
        self._codes: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._order: list[str] = []
        self.bytes = 0

    def add(self, columns: Mapping[str, Column]) -> None:
        """Add the next rows."""
        self._order = self._order or list(columns)
        for name, column in columns.items():
            if isinstance(column, Text):
                self._become_texts(name)
                self._add_texts(name, column)
            elif name in self._known:
                self._add_texts(name, Text.of(as_texts(column)))
            else:
                self._numbers.setdefault(name, []).append(column)
                self.bytes += column.nbytes

    def columns(self) -> dict[str, Column]:
        """Return the columns of all rows, and keep nothing."""
        for name, parts in self._numbers.copy().items():
            floats = any(part.is_floating_point() for part in parts)
            wholes = [part for part in parts if part.dtype == torch.int64 and len(part)]
            if floats and any(int(part.min()) < -EXACT or int(part.max()) > EXACT for part in wholes):
                self._become_texts(name)  # as floats they would be other numbers
        made: dict[str, Column] = {}
        for name in self._order:  # the parts of a column go before the next is joined, so that memory holds the table once
            if name in self._known:
                made[name] = Text(self._known.pop(name), torch.from_numpy(np.concatenate(self._codes.pop(name))))
            else:
                made[name] = torch.cat(self._numbers.pop(name))
        return made

    def _become_texts(self, name: str) -> None:
        if name not in self._known:
            self._known[name], self._codes[name] = {}, []
            for part in self._numbers.pop(name, ()):
                self._add_texts(name, Text.of(as_texts(part)))

    def _add_texts(self, name: str, column: Text) -> None:
        known = self._known[name]
        before = len(known)
        places = [known.setdefault(value, len(known)) for value in column.values.tolist()]
        self._codes[name].append(np.array(places or [0], dtype=np.int32)[column.codes.numpy()])
        self.bytes += 4 * len(column) + sum(49 + len(value) for value in column.values.tolist()) * (len(known) > before)


def as_texts(column: Column) -> list[str]:
    """Return the cells of a column as texts; gaps are empty, and whole numbers have no decimals."""
    if isinstance(column, Text):
        return column.take(torch.arange(len(column)))
    return [shown_cell(value) for value in column.tolist()]


def shown_cell(value: float | bool) -> str:
    """Return a number as a text."""
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124, NaN is what differs from itself
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)
    return str(value)
