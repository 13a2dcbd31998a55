"""In the place of Hugging Face's datasets: rows over columns in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class Dataset:
    """Columns whose rows are dicts, or in the format of torch dicts of tensors, or as an Arrow table."""

    def __init__(self, columns: Mapping[str, list[Any]], kind: str | None = None) -> None:
        self._columns, self._kind = columns, kind

    @classmethod
    def from_dict(cls, columns: Mapping[str, list[Any]]) -> Dataset:
        return cls(columns)

    def with_format(self, kind: str | None) -> Dataset:
        return Dataset(self._columns, kind)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, index: int | slice) -> Any:
        if self._kind == "arrow":
            import pyarrow  # noqa: PLC0415  (only where a test has seen that it is there)

            return pyarrow.table({name: column[index] for name, column in self._columns.items()})
        row = {name: column[index] for name, column in self._columns.items()}
        return {name: torch.tensor(value) for name, value in row.items()} if self._kind == "torch" else row
