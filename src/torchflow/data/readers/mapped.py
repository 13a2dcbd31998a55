"""A table on disk that is larger than memory: an Arrow file, mapped into memory and read a few rows at a time."""

from __future__ import annotations

import importlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
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
from torchflow.data.readers.columns import EXACT, MOMENT
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source
from torchflow.errors import FileError

ARROW, MANIFEST = "table.arrow", "manifest.json"
_WHOLE = ("bool", "int64")
_DTYPES = {"bool": torch.bool, "int64": torch.int64, "float": torch.float32, "double": torch.float64, "text": None}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a mapped table is.

    Attributes:
        origin: What it was made from: a path, its size, its time, and the chosen columns.
        sizes: The rows of each piece of the file.
        kinds: By column, what its cells are once read: bool, int64, float, double or text.
        moments: The columns of dates.
        bytes: The size of the file.
    """

    origin: Mapping[str, Any]
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
        if kind == "double" and array.type in _WHOLE:  # gaps elsewhere in the column
            array = (array.cast("int8") if array.type == "bool" else array).cast("double")
        values: Any = array.to_numpy(zero_copy_only=False)
        return torch.from_numpy(np.ascontiguousarray(values[back]))

    def _piece(self, number: int) -> Any:
        """Return a record batch of the file, which lies on disk until it is looked at."""
        if self._pieces is None or self._pieces[0] != os.getpid():
            arrow = pyarrow("a mapped table")
            path = self._folder / ARROW
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


class Kinds:
    """What the columns of a table turn out to be, while its pieces pass by."""

    def __init__(self) -> None:
        self._gaps: set[str] = set()
        self._large: set[str] = set()

    def seen(self, piece: Any) -> None:
        """Look at a record batch of bool, int64, float, double and large_string columns."""
        compute = importlib.import_module("pyarrow.compute")
        for name, column in zip(piece.schema.names, piece.columns, strict=True):
            if column.type in _WHOLE and column.null_count:
                self._gaps.add(name)
            if column.type == "int64":
                extremes = compute.min_max(column).as_py()
                if any(value is not None and abs(value) > EXACT for value in extremes.values()):
                    self._large.add(name)

    def of(self, schema: Any) -> dict[str, str]:
        """Return the kind of each column: whole numbers with gaps are floats, or texts where a float would change them."""
        kinds = {field.name: "text" if field.type == "large_string" else str(field.type) for field in schema}
        gaps = {name: "text" if name in self._large else "double" for name in self._gaps}
        return {name: gaps.get(name, kind) for name, kind in kinds.items()}


def write_mapped(folder: Path, pieces: Iterable[Any], schema: Any, moments: Sequence[str], origin: Mapping[str, Any]) -> Manifest:
    """Write record batches to a mapped table, of which nothing counts until its manifest is there.

    Args:
        folder: Where; it is made.
        pieces: Record batches of the schema, at most a few ten thousand rows each.
        schema: Arrow's: columns of bool, int64, float, double and large_string.
        moments: The columns of dates.
        origin: What it is made from.

    Raises:
        FileError: The folder cannot be written.
    """
    arrow = pyarrow("a mapped table")
    kinds, sizes = Kinds(), []
    path = folder / ARROW
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        with arrow.OSFile(str(path), "wb") as file, arrow.ipc.new_file(file, schema) as writer:
            for piece in pieces:
                if len(piece):
                    kinds.seen(piece)
                    sizes.append(len(piece))
                    writer.write_batch(piece)
        manifest = Manifest(origin, sizes, kinds.of(schema), list(moments), path.stat().st_size)
        beside = folder / f"{MANIFEST}.{os.getpid()}"
        said = {name: getattr(manifest, name) for name in Manifest.__slots__}
        beside.write_text(json.dumps(said), encoding="utf-8")
        os.replace(beside, folder / MANIFEST)
    except OSError as error:
        raise FileError(f"{folder} cannot be written: {error.strerror or error}. Pass another cache=.", folder) from error
    return manifest


def read_manifest(folder: Path, origin: Mapping[str, Any]) -> Manifest | None:
    """Return the manifest of a mapped table that was made from just this; None where there is none, or another."""
    try:
        found = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        size = (folder / ARROW).stat().st_size
    except (OSError, ValueError, TypeError):
        return None
    return found if found.origin == origin and found.bytes == size else None
