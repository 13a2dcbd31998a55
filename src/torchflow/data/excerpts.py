"""A few batches of an epoch, for a trial that stands for the whole."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from typing import Any

from torchflow.data.batches import Batches
from torchflow.types import State


class Excerpt:
    """The first batches of every epoch, and where an epoch's end is found without reading it, the last ones too.

    Args:
        batches: The batches of the whole.
        first: How many from the start.
        last: How many from the end, of data that says its length and finds a batch by its number.
    """

    def __init__(self, batches: Batches[Any], first: int, last: int = 0) -> None:
        length = batches.length
        places = list(range(first if length is None else min(first, length)))
        if length is not None and batches.samples is not None:
            places += range(max(len(places), length - last), length)
        self.places = places
        self.length: int | None = None if length is None else len(places)
        self.samples: int | None = None
        self._batches = batches

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Return the batches of the excerpt, from its batch ``start`` on."""
        return self._epoch(epoch, start)

    def _epoch(self, epoch: int, start: int) -> Generator[Any, None, None]:
        if self._batches.samples is None:  # a stream is read once, in its order
            with contextlib.closing(_closable(self._batches.epoch(epoch))) as batches:
                yield from itertools.islice(batches, start, len(self.places))
            return
        for place in self.places[start:]:
            with contextlib.closing(_closable(self._batches.epoch(epoch, place))) as batches:
                yield next(batches)

    def indices(self, epoch: int, batch: int) -> list[int] | None:
        """Return the sample indices of one batch."""
        return self._batches.indices(epoch, self.places[batch])

    def describe(self) -> dict[str, State]:
        """Return what the whole says, and which batches these are."""
        return {**self._batches.describe(), "excerpt": list(self.places)}

    def close(self) -> None:
        """End the workers of the whole."""
        self._batches.close()


def _closable(batches: Iterator[Any]) -> Generator[Any, None, None]:
    yield from batches
