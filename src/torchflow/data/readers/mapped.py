"""A table on disk that is larger than memory: an Arrow file, mapped into memory and read a few rows at a time."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.data.collate import rows
from torchflow.data.draw import Draw
from torchflow.data.readers.arrow import pyarrow
from torchflow.data.readers.columns import MOMENT
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source
from torchflow.errors import FileError

WHOLE = ("bool", "int64")
_DTYPES = {"bool": torch.bool, "int64": torch.int64, "float": torch.float32, "double": torch.float64, "text": None}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a mapped table is.

    Attributes:
        origin: What it was made from: a path, its size, its time, and the chosen columns.
        file: The name of the Arrow file, which lies beside the manifest.
        sizes: The rows of each piece of the file.
        kinds: By column, what its cells are once read: bool, int64, float, double or text.
        moments: The columns of dates.
        bytes: The size of the file.
    """

    origin: Mapping[str, Any]
    file: str
    sizes: Sequence[int]
    kinds: Mapping[str, str]
    moments: Sequence[str]
    bytes: int


class MappedTable(Source):
    """Samples are the rows of an Arrow file, as those of :class:`torchflow.data.readers.columns.Table`.

    A batch finds the pieces of the file that hold its rows and takes the rows out of each, so that its cost is that of its own
    rows whatever the file's size: Arrow's own ``take`` over the whole would join all pieces in memory first. Nothing is kept but
    the map, which processes open for themselves.

    Args:
        folder: Where the file and its manifest are.
        manifest: What they are.
        lineage: The factory's name.
    """

    random = foreign = False
    columnar = True

    def __init__(self, folder: Path, manifest: Manifest, lineage: str) -> None:
        self._folder = folder
        self._manifest = manifest
        self._lineage = lineage
        self._ends = list(accumulate(manifest.sizes))
        self._pieces: tuple[int, Any, dict[int, Any]] | None = None
        self.schema = Schema(
            tuple(
                Field(name, (), _DTYPES[kind], MOMENT if name in manifest.moments else None)
                for name, kind in manifest.kinds.items()
            )
        )

    @property
    def length(self) -> int:
        """How many rows there are."""
        return self._ends[-1]

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self._lineage

    def batch(self, indices: Tensor, draw: Draw) -> dict[str, Any]:
        """Return a tensor (batch,) or a list of texts for every column."""
        arrow = pyarrow("a mapped table")
        wanted = indices.numpy()
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        parts, start = [], 0
        while start < len(ordered):
            piece = bisect_right(self._ends, int(ordered[start]))
            end = int(np.searchsorted(ordered, self._ends[piece]))
            own = ordered[start:end] - (self._ends[piece] - self._manifest.sizes[piece])
            parts.append(self._piece(piece).take(arrow.array(own)))
            start = end
        table = arrow.Table.from_batches(parts, schema=self._piece(0).schema).combine_chunks()
        back = np.argsort(order, kind="stable")
        return {name: self._cells(table[name], name, back) for name in table.column_names}

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the rows one by one."""
        return rows(self.batch(indices, draw), len(indices))

    def _cells(self, chunked: Any, name: str, back: np.ndarray[Any, Any]) -> Any:
        """Return the cells of a few rows, put in order, of the kind that the whole column has."""
        kind = self._manifest.kinds[name]
        array = chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)
        if kind == "text":
            texts = [text or "" for text in array.cast("large_string").to_pylist()]
            return [texts[row] for row in back.tolist()]
        if kind == "double" and array.type in WHOLE:  # gaps elsewhere in the column
            array = (array.cast("int8") if array.type == "bool" else array).cast("double")
        values: Any = array.to_numpy(zero_copy_only=False)
        return torch.from_numpy(np.ascontiguousarray(values[back]))

    def _piece(self, number: int) -> Any:
        """Return a record batch of the file, which lies on disk until it is looked at."""
        if self._pieces is None or self._pieces[0] != os.getpid():
            arrow = pyarrow("a mapped table")
            path = self._folder / self._manifest.file
            try:
                if path.stat().st_size != self._manifest.bytes:
                    raise OSError("its size is not what was written")
                self._pieces = (os.getpid(), arrow.ipc.open_file(arrow.memory_map(str(path))), {})
            except (OSError, arrow.ArrowException) as error:
                raise FileError(f"{path} cannot be read: {error}. Delete {self._folder} to make it anew.", path) from error
        _, reader, known = self._pieces
        if number not in known:
            known[number] = reader.get_batch(number)
        return known[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pieces": None}  # every process maps the file itself
