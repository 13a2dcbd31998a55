"""An Arrow file, mapped into memory, and cells out of it by their places: Arrow's columnar format, read in place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchflow.data.readers.arrow import pyarrow
from torchflow.errors import FileError

Array = np.ndarray[Any, Any]
_WIDTHS = {"double": 8, "int64": 8, "float": 4}


@dataclass(frozen=True, slots=True)
class Places:
    """Where a column lies in the file: for each piece the bytes before its values, shape (pieces,).

    Attributes:
        type: Arrow's: bool, int64, float, double or large_string.
        values: Of the values; of texts the offsets into their characters.
        valid: Of the bits that are 0 for a gap; -1 for a piece without gaps.
        characters: Of the characters of texts.
    """

    type: str
    values: Array
    valid: Array
    characters: Array


@dataclass(frozen=True, slots=True)
class Map:
    """A mapped Arrow file.

    Attributes:
        bytes: All of it, as the operating system shows it.
        numbers: The same, as numbers of each type.
        columns: Where the columns lie, by name.
    """

    bytes: Array
    numbers: dict[str, Array]
    columns: dict[str, Places]

    def cells(self, name: str, kind: str, pieces: Array, local: Array) -> Any:
        """Return the cells of some rows as a tensor (batch,) or a list of texts.

        Args:
            name: The column.
            kind: What its cells are once read: bool, int64, float, double or text.
            pieces: The piece that holds each row, shape (batch,).
            local: The place of each row in its piece.
        """
        places = self.columns[name]
        if places.type == "large_string":
            return self._texts(places, pieces, local)
        values = self._values(places, pieces, local)
        if kind == "text":  # whole numbers beside gaps that no float64 holds
            there = self._there(places, pieces, local)
            return [str(value) if known else "" for value, known in zip(values.tolist(), there.tolist(), strict=True)]
        if kind == "double" and places.type != "double":
            values = np.where(self._there(places, pieces, local), values.astype(np.float64), np.nan)
        return torch.from_numpy(values).clone()  # torch aligns its memory in its own way, on which results depend

    def _values(self, places: Places, pieces: Array, local: Array) -> Array:
        if places.type == "bool":
            return self._bits(places.values[pieces], local)
        made: Array = self.numbers[places.type][places.values[pieces] // _WIDTHS[places.type] + local]
        return made

    def _there(self, places: Places, pieces: Array, local: Array) -> Array:
        """Return where there is no gap, bool of shape (batch,)."""
        start = places.valid[pieces]
        return (start < 0) | self._bits(np.maximum(start, 0), local)

    def _bits(self, start: Array, local: Array) -> Array:
        made: Array = (self.bytes[start + (local >> 3)] >> (local & 7) & 1).astype(np.bool_)
        return made

    def _texts(self, places: Places, pieces: Array, local: Array) -> list[str]:
        """Return texts; a gap has no characters."""
        at = places.values[pieces] // 8 + local
        offsets, base = self.numbers["int64"], places.characters[pieces]
        begin, end = (base + offsets[at]).tolist(), (base + offsets[at + 1]).tolist()
        view = self.bytes.data
        return [str(view[first:last], "utf-8") for first, last in zip(begin, end, strict=True)]


def opened_map(path: Path, size: int) -> Map:
    """Map an Arrow file and look up where its columns lie.

    Args:
        path: The file.
        size: The bytes that it had when it was written.

    Raises:
        FileError: It is not there, or not what was written.
    """
    arrow = pyarrow("a mapped table")
    try:
        if path.stat().st_size != size:
            raise OSError("its size is not what was written")
        whole = arrow.memory_map(str(path)).read_buffer()
        reader = arrow.ipc.open_file(whole)
        pieces = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        columns = {
            field.name: _places([piece.column(place) for piece in pieces], str(field.type), whole.address)
            for place, field in enumerate(reader.schema)
        }
    except (OSError, arrow.ArrowException) as error:
        raise FileError(f"{path} cannot be read: {error}. Delete {path.parent} to make it anew.", path) from error
    contents = np.frombuffer(whole, dtype=np.uint8)
    types = (("double", np.float64), ("int64", np.int64), ("float", np.float32))
    return Map(contents, {name: contents[: len(contents) // 8 * 8].view(kind) for name, kind in types}, columns)


def _places(arrays: list[Any], kind: str, start: int) -> Places:
    """Return where the buffers of a column lie, counted from the beginning of the file."""
    buffers = [array.buffers() for array in arrays]

    def offsets(number: int) -> Array:
        found = (each[number] if len(each) > number else None for each in buffers)
        return np.array([-1 if buffer is None else buffer.address - start for buffer in found], dtype=np.int64)

    return Places(kind, offsets(1), offsets(0), np.maximum(offsets(2), 0))
