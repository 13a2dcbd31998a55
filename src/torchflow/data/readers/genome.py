"""Windows over a genome: a FASTA file too large to hold, of which only the stretch of a sample is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.draw import Draw
from torchflow.data.nucleotides import (
    ENCODINGS,
    INVALID,
    LETTER_CODES,
    SOFT_MASKED_CODES,
    encoded,
    reversed_complement,
    wrong_letter,
)
from torchflow.data.readers.files import FileSource
from torchflow.data.readers.headers import Labels, as_targets
from torchflow.data.readers.intervals import STRANDS, Interval, Places, checked_intervals, chosen, tiled
from torchflow.data.readers.listing import Files
from torchflow.data.readers.sequences import schema_of_sequences
from torchflow.data.readers.stretches import MAX_LENGTH, Stretch, indexed, state_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError

MAX_WINDOW = 2**26
"""The most bases of one window."""


def from_genome(
    path: str | os.PathLike[str],
    *,
    length: int | None = None,
    stride: int | None = None,
    intervals: str | os.PathLike[str] | Sequence[Any] | None = None,
    labels: Sequence[Any] | Tensor | None = None,
    strand: str = "+",
    encoding: str = "codes",
    soft_masked: str = "keep",
    cache: str | os.PathLike[str] | None = None,
    max_length: int | None = None,
) -> Dataset[Any]:
    """Return the dataset of windows over the sequences of a large FASTA file, of which each read takes only its own stretch.

    The file is indexed once, now, by pyfaidx. A sample costs opening the file and one read; threads and worker processes
    read at once, for nobody keeps the file open.

    Args:
        path: A FASTA file, plain: random access into gzip is not possible.
        length: Bases of a window; every window that lies wholly within a sequence is a sample.
        stride: Bases between the starts of two windows; None is ``length``.
        intervals: The stretches to take instead: ``(chromosome, start, stop)`` or ``(chromosome, start, stop, strand)`` each,
            counted from 0 with ``stop`` left out; or the path of a BED file.
        labels: The label of every interval: texts become class indices in sorted order, numbers stay numbers.
        strand: ``"+"``, ``"-"`` (the reverse complement of every window), or ``"both"``: all windows of one strand and then all of
            the other. It belongs to ``length``; intervals have strands of their own.
        encoding: As for :func:`from_fasta`.
        soft_masked: As for :func:`from_fasta`.
        cache: A folder in which the index is kept; None makes it anew every time. Nothing is written beside the data.
        max_length: The most bytes of one line, 2^28 by default, which holds any human chromosome.

    Returns:
        Samples ``x``, or ``(x, y)`` with labels. ``dataset.source.interval(i)`` says where a sample lies.

    Raises:
        ArgumentTypeError: An argument of the wrong type, or neither ``length`` nor ``intervals``.
        ArgumentValueError: An impossible value.
        FileError: The file is not there, is no FASTA, is compressed, or has lines of unequal lengths.
        DataError: An interval is outside, or no sequence is long enough.
        MissingExtraError: pyfaidx is not installed.
    """
    file = str(arguments.path("path", path))
    kind = arguments.one_of("encoding", encoding, ENCODINGS)
    masked = arguments.one_of("soft_masked", soft_masked, ("keep", "N")) == "N"
    side = arguments.one_of("strand", strand, STRANDS)
    if (length is None) == (intervals is None):
        raise ArgumentTypeError("from_genome needs length= for windows over everything, or intervals=, and not both.")
    if intervals is not None and (stride is not None or side != "+"):
        raise ArgumentTypeError(
            "stride= and strand= belong to length=. Intervals have strands of their own: (chromosome, start, stop, '-')."
        )
    size = arguments.whole_or_none("length", length)
    if size is not None and size > MAX_WINDOW:
        raise ArgumentValueError(f"length must be at most {MAX_WINDOW}, got {size}.")
    wanted = None if intervals is None else checked_intervals(intervals)
    step = size if stride is None else arguments.whole("stride", stride)
    folder = None if cache is None else arguments.path("cache", cache)
    line = arguments.whole("max_length", MAX_LENGTH if max_length is None else max_length)
    stretches = indexed(file, folder, line)
    bases = {name: stretch.bases for name, stretch in stretches.items()}
    places = tiled(bases, size, step, file).on(side) if size and step else chosen(bases, wanted or [], file)
    return Dataset(Genome(file, list(stretches.values()), places, _labels(labels, places), encoding=kind, masked=masked))


class Genome(FileSource):
    """Stretches of one FASTA file as samples.

    Args:
        path: The file.
        stretches: Where its sequences lie.
        places: Which stretches are samples.
        labels: What is learnt of each, or None.
        encoding: "codes" or "one-hot".
        masked: Whether lower case letters become N.
    """

    def __init__(
        self, path: str, stretches: Sequence[Stretch], places: Places, labels: Labels | None, *, encoding: str, masked: bool
    ) -> None:
        schema = schema_of_sequences(places.size, encoding, False, labels)
        super().__init__(Files((path,), (os.path.basename(path),)), "from_genome", schema, counts=[len(places)])
        self._stretches, self._places, self._labels = stretches, places, labels
        self._encoding, self._table = encoding, SOFT_MASKED_CODES if masked else LETTER_CODES
        self._state = state_of(path)

    def interval(self, index: int) -> Interval:
        """Return where a sample lies."""
        return self._places[index]

    def column(self, part: str | int) -> Tensor | None:
        """Return the labels of all stretches."""
        return None if self._labels is None or part not in (1, "label") else self._labels.targets

    def stamp(self, times: bool = False) -> str:
        """Return a digest of the file, and of which stretches are samples with which labels."""
        digest = hashlib.blake2b(super().stamp(times).encode(), digest_size=16)
        for column in (self._places.owners, self._places.starts, self._places.stops, self._places.reverse):
            digest.update(column.tobytes())
        digest.update(b"" if self._labels is None else self._labels.targets.numpy().tobytes())
        return digest.hexdigest()

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Read the stretches, with their labels where there are any."""
        made = super().samples(indices, draw)
        if self._labels is None:
            return made
        return [(x, y.clone()) for x, y in zip(made, self._labels.targets[indices], strict=True)]

    def read(self, path: str, part: int) -> Any:
        """Return one stretch, encoded."""
        place = self._places[part]
        stretch = self._stretches[int(self._places.owners[part])]
        first, last = (
            stretch.offset + at // stretch.line_bases * stretch.line_bytes + at % stretch.line_bases
            for at in (place.start, place.stop)
        )
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if (found.st_size, found.st_mtime_ns) != self._state:
                raise FileError(f"{path} has changed since it was indexed. Make the dataset anew.", path)
            file.seek(first)
            letters = file.read(last - first).translate(None, b"\r\n")[: place.stop - place.start]
        packed = self._table[np.frombuffer(letters, dtype=np.uint8)]
        wrong = np.flatnonzero(packed == INVALID)
        if wrong.size or len(packed) < place.stop - place.start:
            at = int(wrong[0]) if wrong.size else len(packed)
            said = wrong_letter(chr(letters[at])) if wrong.size else "the file ends there. Make the dataset anew."
            raise FileError(f"{path}, {place.chromosome}, base {place.start + at + 1}: {said}", path)
        return encoded(reversed_complement(packed) if place.strand == "-" else packed, self._encoding)


def _labels(labels: Sequence[Any] | Tensor | None, places: Places) -> Labels | None:
    """Return the labels of intervals."""
    if labels is None:
        return None
    values: Any = labels.tolist() if isinstance(labels, (Tensor, np.ndarray)) else labels
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence):
        raise ArgumentTypeError(f"labels must be a list with a label for each interval, got {arguments.shown(labels)}.")
    if len(values) != len(places):
        raise DataError(f"labels must be as many as intervals, {len(places)}, got {len(values)}.")
    return as_targets(values, lambda number: f"interval {number}")
