"""The records of packed sequence files as samples."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.data.collate import collate, rows
from torchflow.data.draw import Draw
from torchflow.data.nucleotides import BASES, encoded
from torchflow.data.readers.files import Files
from torchflow.data.readers.headers import Labels
from torchflow.data.readers.packs import Pack
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source

_STAMPED = 4096  # bases that a resume compares


class Sequences(Source):
    """The records of a pack as samples.

    Args:
        pack: The records.
        encoding: "codes" or "one-hot".
        labels: The target of every record and their classes, or None.
        files: Where they come from.
        lineage: The factory's name.
    """

    random = foreign = False

    def __init__(self, pack: Pack, encoding: str, labels: Labels | None, files: Files, lineage: str) -> None:
        self._pack, self._encoding, self._labels, self._files = pack, encoding, labels, files
        self._lineage = lineage
        lengths = np.diff(pack.offsets)
        self._size = int(lengths[0]) if bool((lengths == lengths[0]).all()) else None
        self.schema = schema_of_sequences(self._size, encoding, pack.qualities is not None, labels)

    @property
    def length(self) -> int:
        """How many records there are."""
        return len(self._pack)

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self._lineage

    @property
    def columnar(self) -> bool:
        """Whether all records have one length, so that a batch is gathered at once."""
        return self._size is not None

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """The files that cannot be read."""
        return self._files.skipped

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """What the folder holds and nobody asked for."""
        return self._files.left_out

    def column(self, part: str | int) -> Tensor | None:
        """Return the labels of all records."""
        place = 1 if self._pack.qualities is None else 2
        return None if self._labels is None or part not in (place, "label") else self._labels.targets

    def stamp(self, times: bool = False) -> str:
        """Return a digest of names, lengths, labels, and bases spread evenly over all records, or all of them with ``times``."""
        digest = hashlib.blake2b(repr(self._files.names).encode("utf-8", "surrogateescape"), digest_size=16)
        digest.update(self._pack.offsets.tobytes())
        if self._labels is not None:
            digest.update(self._labels.targets.numpy().tobytes())
        codes = self._pack.codes
        digest.update(codes[:: 1 if times else max(1, len(codes) // _STAMPED)].tobytes())
        return digest.hexdigest()

    def header(self, index: int) -> str:
        """Return the header line of a record, without its mark."""
        return self._pack.header(index)

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the records gathered at once where they have one length."""
        if self._size is None or not len(indices):
            roots = indices if draw.roots is None else draw.roots
            return collate(self.samples(indices, draw), roots.tolist())
        places = self._pack.offsets[indices.numpy()][:, None] + np.arange(self._size)
        return self._parts(places, indices)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the records one by one."""
        if self._size is not None and len(indices):
            return rows(self.batch(indices, draw), len(indices))
        ends = zip(self._pack.offsets[indices.numpy()], self._pack.offsets[indices.numpy() + 1], indices, strict=True)
        return [self._parts(slice(int(start), int(stop)), index) for start, stop, index in ends]

    def _parts(self, places: Any, index: Tensor) -> Any:
        """Return what stands at some places of the pack: a sample of a slice, a batch of places (batch, length)."""
        parts = [encoded(np.asarray(self._pack.codes[places]), self._encoding)]
        if self._pack.qualities is not None:
            parts.append(torch.from_numpy(np.asarray(self._pack.qualities[places]).astype(np.int64)))
        if self._labels is not None:
            parts.append(self._labels.targets[index].clone())
        return tuple(parts) if len(parts) > 1 else parts[0]


def schema_of_sequences(size: int | None, encoding: str, qualities: bool, labels: Labels | None) -> Schema:
    """Return what a sample is: a sequence, its qualities where there are any, and its label where there is one."""
    codes = Field("sequence", (size,), torch.int64, dims=("position",))
    channels = Field("sequence", (len(BASES), size), torch.float32, dims=("base", "position"))
    fields = [codes if encoding == "codes" else channels]
    if qualities:
        fields.append(Field("quality", (size,), torch.int64, unit="phred", dims=("position",)))
    if labels is not None:
        fields.append(Field("label", tuple(labels.targets.shape[1:]), labels.targets.dtype, classes=labels.classes, target=True))
    return Schema(tuple(fields))
