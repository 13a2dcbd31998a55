"""Many texts in one long array of bytes: lines of files, rows of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchflow.data.draw import Draw
from torchflow.data.readers.files import Files
from torchflow.data.readers.headers import Labels
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STAMPED = 4096


class PackedTexts(NamedTuple):
    """Texts in UTF-8.

    Attributes:
        content: uint8, shape (bytes,).
        starts: int64, shape (texts,): where each begins.
        stops: int64, shape (texts,): where each ends.
    """

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def lines_of(path: str, *, decode: Callable[[str], str]) -> PackedTexts:
    """Return the lines of a file, without their ends."""
    content = np.frombuffer(decode(path).encode("utf-8"), dtype=np.uint8)
    ends = np.flatnonzero(content == ord("\n"))
    if not len(content) or content[-1] != ord("\n"):
        ends = np.append(ends, len(content))
    return PackedTexts(content, np.concatenate(([0], ends[:-1] + 1)).astype(np.int64), ends.astype(np.int64))


def texts_in(texts: Sequence[str]) -> PackedTexts:
    """Return texts that are in memory already."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    stops = np.cumsum([len(each) for each in encoded], dtype=np.int64)
    starts = np.concatenate(([0], stops[:-1])).astype(np.int64)
    return PackedTexts(np.frombuffer(b"".join(encoded), dtype=np.uint8), starts, stops)


def packed_texts(parts: Sequence[PackedTexts]) -> PackedTexts:
    """Return the texts of several packs, one after the other."""
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(len(part.content) for part in parts[:-1])])
    starts = [part.starts + shift for part, shift in zip(parts, before, strict=True)]
    stops = [part.stops + shift for part, shift in zip(parts, before, strict=True)]
    return PackedTexts(np.concatenate([part.content for part in parts]), np.concatenate(starts), np.concatenate(stops))


def spread(files: Files, counts: Sequence[int]) -> Labels | None:
    """Return the label of each file for all of its texts."""
    if files.labels is None:
        return None
    return Labels(files.labels.repeat_interleave(torch.tensor(counts), dim=0), files.classes)


class Texts(Source):
    """Texts in memory as samples, decoded when they are read.

    Args:
        texts: The texts.
        labels: What is learnt of each, or None.
        files: Where they come from.
        lineage: The factory's name.
        counts: How many texts each file has; nothing for one file.
    """

    random = foreign = columnar = False

    def __init__(
        self, texts: PackedTexts, labels: Labels | None, files: Files, lineage: str, *, counts: Sequence[int] = ()
    ) -> None:
        self._texts, self._labels, self._files = texts, labels, files
        self._lineage = lineage
        self._seams = torch.cumsum(torch.tensor(counts[:-1], dtype=torch.int64), 0)
        target = (
            ()
            if labels is None
            else (Field("label", tuple(labels.targets.shape[1:]), labels.targets.dtype, classes=labels.classes, target=True),)
        )
        self.schema = Schema((Field("text"), *target))

    @property
    def length(self) -> int:
        """How many texts there are."""
        return len(self._texts.starts)

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self._lineage

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """The files that cannot be read."""
        return self._files.skipped

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """What the folder holds and nobody asked for."""
        return self._files.left_out

    def column(self, part: str | int) -> Tensor | None:
        """Return the labels of all texts."""
        return None if self._labels is None or part not in (1, "label") else self._labels.targets

    def seams(self) -> Tensor:
        """Return where the lines of another file begin."""
        return self._seams

    def stamp(self, times: bool = False) -> str:
        """Return a digest of where texts begin, of labels, and of bytes spread evenly over all, or all of them with ``times``."""
        digest = hashlib.blake2b(self._texts.starts.tobytes(), digest_size=16)
        if self._labels is not None:
            digest.update(self._labels.targets.numpy().tobytes())
        content = self._texts.content
        digest.update(content[:: 1 if times else max(1, len(content) // _STAMPED)].tobytes())
        return digest.hexdigest()

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the texts, with their labels where there are any."""
        content, starts, stops = self._texts
        places = indices.numpy()
        found = [
            content[start:stop].tobytes().decode("utf-8", "surrogatepass")
            for start, stop in zip(starts[places].tolist(), stops[places].tolist(), strict=True)
        ]
        if self._labels is None:
            return found
        return [(text, label.clone()) for text, label in zip(found, self._labels.targets[indices], strict=True)]
