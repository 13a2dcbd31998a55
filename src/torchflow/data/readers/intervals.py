"""Which stretches of a genome are samples: tiles of one length, or a list of intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from torchflow import arguments
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError

STRANDS = ("+", "-", "both")
_LINE = 2**16


class Interval(NamedTuple):
    """A stretch of a chromosome.

    Attributes:
        chromosome: The name of the sequence.
        start: The first base, from 0 on.
        stop: The base after the last.
        strand: "+" or "-".
    """

    chromosome: str
    start: int
    stop: int
    strand: str = "+"

    def __str__(self) -> str:
        return f"{self.chromosome}:{self.start}-{self.stop} ({self.strand})"


class Places:
    """The intervals of a dataset, as numbers.

    Args:
        chromosomes: The names.
        owners: int64, shape (intervals,): the chromosome of each.
        starts: int64, shape (intervals,).
        stops: int64, shape (intervals,).
        reverse: bool, shape (intervals,): whether it is read from the other strand.
    """

    def __init__(self, chromosomes: Sequence[str], owners: Any, starts: Any, stops: Any, reverse: Any) -> None:
        self.chromosomes = tuple(chromosomes)
        self.owners = np.asarray(owners, dtype=np.int64)
        self.starts = np.asarray(starts, dtype=np.int64)
        self.stops = np.asarray(stops, dtype=np.int64)
        self.reverse = np.asarray(reverse, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.owners)

    def __getitem__(self, index: int) -> Interval:
        name = self.chromosomes[int(self.owners[index])]
        return Interval(name, int(self.starts[index]), int(self.stops[index]), "-" if self.reverse[index] else "+")

    @property
    def size(self) -> int | None:
        """The length of all of them; None where they differ."""
        lengths = self.stops - self.starts
        return int(lengths[0]) if bool((lengths == lengths[0]).all()) else None

    def on(self, strand: str) -> Places:
        """Return the same stretches on a strand; "both" gives all of one and then all of the other."""
        if strand != "both":
            return Places(self.chromosomes, self.owners, self.starts, self.stops, np.full(len(self), strand == "-"))
        sides = [self.on("+"), self.on("-")]
        columns = [np.concatenate([getattr(side, name) for side in sides]) for name in ("owners", "starts", "stops", "reverse")]
        return Places(self.chromosomes, *columns)


def tiled(bases: Mapping[str, int], length: int, stride: int, path: str) -> Places:
    """Return every whole window of a length, ``stride`` apart, sequence by sequence.

    Raises:
        DataError: No sequence is long enough.
    """
    counts = np.array([max(0, (size - length) // stride + 1) for size in bases.values()], dtype=np.int64)
    if not counts.sum():
        raise DataError(f"no sequence of {path} has {length} bases; the longest has {max(bases.values())}. Use a shorter length.")
    owners = np.repeat(np.arange(len(counts)), counts)
    first = np.concatenate([np.arange(count) for count in counts.tolist()]) * stride
    return Places(tuple(bases), owners, first, first + length, np.zeros(len(first), dtype=np.bool_))


def chosen(bases: Mapping[str, int], intervals: Sequence[Interval], path: str) -> Places:
    """Return the places of intervals, each of which lies within its sequence.

    Raises:
        DataError: One does not; the message names it.
    """
    index = {name: place for place, name in enumerate(bases)}
    for number, interval in enumerate(intervals):
        if interval.chromosome not in index:
            some = ", ".join(map(repr, list(index)[:5]))
            raise DataError(f"interval {number} is on {interval.chromosome!r}, which {path} does not have. It has {some}, ...")
        if not 0 <= interval.start < interval.stop <= bases[interval.chromosome]:
            size = bases[interval.chromosome]
            raise DataError(
                f"interval {number}, {interval}, must lie within 0 and {size}, the length of the sequence, and not be empty."
            )
    columns = zip(*[(index[i.chromosome], i.start, i.stop, i.strand == "-") for i in intervals], strict=True)
    return Places(tuple(bases), *columns)


def checked_intervals(intervals: object) -> list[Interval]:
    """Return intervals from tuples ``(chromosome, start, stop)`` with an optional strand, or from a BED file.

    Raises:
        ArgumentTypeError: They are neither.
        ArgumentValueError: There is none.
        FileError: The file cannot be read.
    """
    if isinstance(intervals, (str, os.PathLike)):
        return read_intervals(arguments.path("intervals", intervals))
    if not isinstance(intervals, Sequence):
        raise ArgumentTypeError(
            f"intervals must be a list of (chromosome, start, stop) or a BED file, got {arguments.shown(intervals)}."
        )
    if not intervals:
        raise ArgumentValueError("intervals must hold at least one, got none.")
    return [_interval(f"intervals[{number}]", value) for number, value in enumerate(intervals)]


def read_intervals(path: Path) -> list[Interval]:
    """Return the intervals of a BED file: chromosome, start, stop, and, if there are six columns, the strand in the sixth.

    Raises:
        FileError: It cannot be read as that; the message names file and line.
    """
    found: list[Interval] = []
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_LINE), ""), start=1):
                cells = line.split()
                if not cells or line.startswith(("#", "track", "browser")):
                    continue
                strand = cells[5] if len(cells) > 5 and cells[5] != "." else "+"
                if len(cells) < 3 or not cells[1].isdecimal() or not cells[2].isdecimal() or strand not in ("+", "-"):
                    remedy = "A BED line is: chromosome, start, stop, name, score, strand."
                    raise FileError(f"{path}, line {number} is no interval: {line.strip()[:60]!r}. {remedy}", path)
                found.append(Interval(cells[0], int(cells[1][:18]), int(cells[2][:18]), strand))
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}. Pass a BED file.", path) from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}. Check the path.", path) from error
    if not found:
        raise FileError(f"{path} holds no interval. Pass a BED file with at least one.", path)
    return found


def _interval(place: str, value: object) -> Interval:
    if not isinstance(value, (tuple, list)) or len(value) not in (3, 4) or not isinstance(value[0], str):
        raise ArgumentTypeError(
            f"{place} must be (chromosome, start, stop) or with a strand behind it, got {arguments.shown(value)}."
        )
    start, stop = (arguments.whole(f"{name} of {place}", value[at], minimum=0) for at, name in ((1, "start"), (2, "stop")))
    strand = arguments.one_of(f"strand of {place}", value[3], ("+", "-")) if len(value) > 3 else "+"
    return Interval(value[0], start, stop, strand)
