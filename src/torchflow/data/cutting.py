"""How an epoch is cut into batches: positions of an order, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torchflow.data.order import Order

LAST_BATCH = ("keep", "drop", "pad")
_BLOCK = 2**16  # positions of an order that are looked up at once


@dataclass(frozen=True, slots=True)
class Cutting:
    """How an epoch is ordered and cut into batches.

    Args:
        length: Samples of the dataset, at least 1.
        size: Samples of a batch.
        shuffle: Whether each epoch has an order of its own.
        last: "keep", "drop" or "pad".
    """

    length: int
    size: int
    shuffle: bool
    last: str

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return self.length // self.size if self.last == "drop" else -(-self.length // self.size)

    @property
    def samples(self) -> int:
        """How many samples an epoch has, those that count twice included."""
        return min(self.length, self.batches * self.size) if self.last != "pad" else self.batches * self.size

    def cuts(self, order: Order, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield ``(indices, repeats)`` of every batch from ``start`` on: int64 (batch,); repeats is None for all 0."""
        size, length = self.size, self.length
        stop = min(length, self.batches * size)
        whole = stop - stop % size if self.last == "pad" else stop
        block = max(1, _BLOCK // size) * size
        for begin in range(start * size, whole, block):
            for indices in torch.split(order[begin : min(begin + block, whole)], size):
                yield indices, None
        if whole < stop and start < self.batches:
            yield self._padded(order, whole)

    def _padded(self, order: Order, begin: int) -> tuple[Tensor, Tensor]:
        """Return the last batch, filled up from the front of the order, as often around as it takes."""
        tail = order[begin : self.length]
        missing = torch.arange(self.size - len(tail))
        front = order[0 : min(self.length, len(missing))]
        repeats = torch.cat((torch.zeros_like(tail), 1 + missing // self.length))
        return torch.cat((tail, front.index_select(0, missing % self.length))), repeats
