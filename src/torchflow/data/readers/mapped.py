"""A table on disk that is larger than memory: an Arrow file, mapped into memory and read a few rows at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.data.cache_use import Use
from torchflow.data.collate import rows
from torchflow.data.draw import Draw
from torchflow.data.readers.columns import MOMENT
from torchflow.data.readers.mapping import Map, opened_map
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source
from torchflow.errors import FileError

_DTYPES = {"bool": torch.bool, "int64": torch.int64, "float": torch.float32, "double": torch.float64, "text": None}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a mapped table is.

    Attributes:
        format: The format, and its number.
        origin: What it was made from: paths, their sizes, their times, and the chosen columns.
        file: The name of the Arrow file, which lies beside the manifest.
        sizes: The rows of each piece of the file.
        kinds: By column, what its cells are once read: bool, int64, float, double or text.
        moments: The columns of dates.
        bytes: The size of the file.
    """

    format: str
    origin: Mapping[str, Any]
    file: str
    sizes: Sequence[int]
    kinds: Mapping[str, str]
    moments: Sequence[str]
    bytes: int


class MappedTable(Source):
    """Samples are the rows of an Arrow file, as those of :class:`torchflow.data.readers.columns.Table`.

    A batch takes its rows out of the map itself, all of a column in one step, so that its cost is that of its own rows whatever
    the file's size: Arrow's own ``take`` over the whole would join all pieces in memory first. Nothing is kept but the map and
    the places of its pieces, which spawned processes look up for themselves.

    Args:
        folder: Where the file and its manifest are.
        manifest: What they are.
        lineage: The factory's name.
        use: The use of the folder.
    """

    random = foreign = False
    columnar = True

    def __init__(self, folder: Path, manifest: Manifest, lineage: str, use: Use | None = None) -> None:
        self._folder = folder
        self._manifest = manifest
        self._lineage = lineage
        self._use = use
        self._ends = np.cumsum(np.array(manifest.sizes, dtype=np.int64))
        self._starts = self._ends - np.array(manifest.sizes, dtype=np.int64)
        self._map: Map | None = None
        self.schema = Schema(
            tuple(
                Field(name, (), _DTYPES[kind], MOMENT if name in manifest.moments else None)
                for name, kind in manifest.kinds.items()
            )
        )

    @property
    def length(self) -> int:
        """How many rows there are."""
        return int(self._ends[-1])

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self._lineage

    def batch(self, indices: Tensor, draw: Draw) -> dict[str, Any]:
        """Return a tensor (batch,) or a list of texts for every column."""
        wanted = indices.numpy()
        pieces = np.searchsorted(self._ends, wanted, side="right")
        local = wanted - self._starts[pieces]
        try:
            opened = self._map = self._map or opened_map(self._folder / self._manifest.file, self._manifest.bytes)
            return {name: opened.cells(name, kind, pieces, local) for name, kind in self._manifest.kinds.items()}
        except (IndexError, UnicodeDecodeError, ValueError) as error:
            path = self._folder / self._manifest.file
            raise FileError(f"{path} is damaged: {error}. Delete {self._folder} to make it anew.", path) from error

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the rows one by one."""
        return rows(self.batch(indices, draw), len(indices))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "_use": None}  # the map is made again where it is needed
