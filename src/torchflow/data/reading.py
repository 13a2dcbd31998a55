"""How data is read: what ``fit``, ``evaluate`` and ``predict`` are told about it, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torchflow.data.batches import Batches, batches_of
from torchflow.data.bucketing import Bucketed
from torchflow.data.interop import yields_batches
from torchflow.data.workers import Workers
from torchflow.randomness import Keys
from torchflow.types import LastBatch


@dataclass(frozen=True, slots=True)
class Reading:
    """How data becomes batches; the arguments are those of :func:`torchflow.data.batches_of`."""

    batch_size: int | None = None
    shuffle: bool | Bucketed | None = None
    last_batch: LastBatch = "keep"
    workers: int | Workers = 0
    collate: Callable[[list[Any]], Any] | None = None

    def training(self, data: object, keys: Keys, *, pin_memory: bool) -> Batches[Any]:
        """Return the training batches, in the order of each epoch."""
        return batches_of(
            data,
            keys=keys,
            name="train",
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            last_batch=self.last_batch,
            workers=self.workers,
            collate=self.collate,
            pin_memory=pin_memory,
        )

    def evaluation(self, data: object, keys: Keys, name: str, *, pin_memory: bool) -> Batches[Any]:
        """Return batches in the data's own order, every sample once; batches that are already made come as they are."""
        if yields_batches(data, name):
            return batches_of(data, keys=keys, name=name)
        return batches_of(
            data,
            keys=keys,
            name=name,
            batch_size=self.batch_size,
            shuffle=False,
            workers=self.workers,
            collate=self.collate,
            pin_memory=pin_memory,
        )
