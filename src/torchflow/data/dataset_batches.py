"""The batches of a dataset: any batch of any epoch is found at once, and nothing is remembered between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchflow.data.calls import guarded
from torchflow.data.collate import collate as standard_collate
from torchflow.data.cutting import Cutting
from torchflow.data.draw import Draw
from torchflow.data.fingerprint import content_of
from torchflow.data.order import LookedUp, Order, Orders, Ordinary
from torchflow.data.padding import PadBatch
from torchflow.data.sources import Source
from torchflow.data.views import Select
from torchflow.data.workers import Workers
from torchflow.errors import DataError
from torchflow.randomness import Keys, preserved, seed_globals
from torchflow.tree import map_leaves
from torchflow.types import State

if TYPE_CHECKING:
    from torchflow.data.processes import Processes


class DatasetBatches:
    """The batches of a dataset: any batch of any epoch is found at once, and nothing is remembered between them.

    Args:
        source: Where the samples are.
        keys: The keys of the run.
        cutting: How an epoch is ordered and cut.
        workers: Threads or processes that read ahead.
        collate: From a list of samples to a batch, or None.
        pin_memory: Whether batches go to page-locked memory.
        orders: The order of each epoch; None is the ordinary one.
    """

    def __init__(
        self,
        source: Source,
        keys: Keys,
        cutting: Cutting,
        *,
        workers: Workers,
        collate: Callable[[list[Any]], Any] | None,
        pin_memory: bool,
        orders: Orders | None = None,
    ) -> None:
        self.length: int | None = cutting.batches
        self.samples: int | None = cutting.samples
        self._source, self._keys, self._cutting, self._is_standard = source, keys, cutting, collate is None
        self._workers, self._orders = workers, orders or Ordinary(cutting.length, cutting.shuffle)
        self._pin = pin_memory and torch.cuda.is_available()
        self._table: Tensor | None = None
        # No method of this object, which holds processes and cannot be sent to one.
        self._make: Callable[[Tensor, Draw], Any] = partial(_standard, source)
        draws = collate is not None and not _is_own(collate)
        self._calls_users = source.foreign or draws
        if collate is not None:
            self._make = partial(_collated, source, collate, draws)
        if collate is None and source.columnar:
            self._make = source.batch
            if isinstance(source, Select) and source.plain:  # a split, say: its indices are looked up a block at a time
                self._table, self._make = source.indices, source.parents[0].batch
        self._processes: Processes | None = None
        self._latest: tuple[int, Order] | None = None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Return the batches of an epoch from batch ``start`` on; to begin late costs nothing."""
        made = self._epoch(epoch, start)
        return (map_leaves(_pinned, batch) for batch in made) if self._pin else made

    def indices(self, epoch: int, batch: int) -> list[int] | None:
        """Return the sample indices of one batch."""
        cut = next(self._cutting.cuts(self._order(epoch), batch), None)
        return None if cut is None else cut[0].tolist()

    @property
    def joins(self) -> bool:
        """Whether batches can be read several at once, as rows of one: from columns, by this thread."""
        return self._source.columnar and self._is_standard and not self._workers.number and not self._pin

    @property
    def whole(self) -> int:
        """How many batches of an epoch are whole, with no sample twice."""
        return self._cutting.length // self._cutting.size

    def joined(self, epoch: int, start: int, count: int) -> Any:
        """Return ``count`` whole batches from batch ``start`` on as one, in fresh tensors (count * batch, ...)."""
        order, size = self._order(epoch), self._cutting.size
        positions = slice(start * size, (start + count) * size)
        return self._make((order if self._table is None else LookedUp(order, self._table))[positions], Draw(self._keys, epoch))

    def describe(self) -> dict[str, State]:
        """Return the length, the cut and the order; workers may change at a restart."""
        cutting = self._cutting
        return {
            "kind": "dataset",
            "type": self._source.lineage,
            "length": cutting.length,
            "content": content_of(self._source, self._keys),
            "batches": cutting.batches,
            "batch_size": cutting.size,
            "last_batch": cutting.last,
            "order": self._orders.algorithm,
        }

    def close(self) -> None:
        """End the worker processes."""
        if self._processes is not None:
            self._processes.close()
            self._processes = None

    def _epoch(self, epoch: int, start: int) -> Iterator[Any]:
        draw = Draw(self._keys, epoch)
        order = self._order(epoch)
        cuts = self._cutting.cuts(order if self._table is None else LookedUp(order, self._table), start)
        if self._workers.number and self._calls_users:
            yield from self._in_processes(epoch, cuts)
        elif self._workers.number:
            from torchflow.data.threads import read_ahead  # noqa: PLC0415  (most runs read inline, and need none of it)

            ahead, shared = self._workers, self._source.shared
            yield from read_ahead(
                lambda cut: self._make(cut[0], draw.repeated(*cut)), cuts, ahead.number, ahead.prefetch, shared=shared
            )
        else:
            make = self._make
            for indices, repeats in cuts:
                yield make(indices, draw if repeats is None else draw.repeated(indices, repeats))

    def _in_processes(self, epoch: int, cuts: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[Any]:
        from torchflow.data.processes import Processes, Request  # noqa: PLC0415  (most runs read inline, and need none of it)

        if self._processes is None:
            self._source.prepare()  # what is done once is done here, not once in every worker
            self._processes = Processes(self._make, self._keys, self._workers)
        requests = (Request(epoch, indices.tolist(), None if repeats is None else repeats.tolist()) for indices, repeats in cuts)
        yield from self._processes.run(requests)

    def _order(self, epoch: int) -> Order:
        """Return the order of an epoch; the latest is kept."""
        latest = self._latest
        if latest is None or latest[0] != epoch:
            latest = self._latest = (epoch, self._orders.order(self._keys("order", epoch)))
        return latest[1]


def _standard(source: Source, indices: Tensor, draw: Draw) -> Any:
    """Return a batch of samples that Python made, which may be bare text."""
    batch = source.batch(indices, draw)
    if isinstance(batch, list) and isinstance(batch[0], (str, bytes)):
        raise DataError(
            f"sample {int(indices[0])} is {type(batch[0]).__name__}: {batch[0][:40]!r}. A batch to train on needs tensors: "
            "encode the text in a map, or pass collate=."
        )
    return batch


def _is_own(collate: Callable[[list[Any]], Any]) -> bool:
    """Return whether a function that makes batches is one of this package, which draws nothing and may run in a thread."""
    return isinstance(collate, PadBatch) or collate is standard_collate


def _collated(source: Source, collate: Callable[[list[Any]], Any], draws: bool, indices: Tensor, draw: Draw) -> Any:
    """Return a batch made by the user's own function, which may draw: from the stream of its first sample in this epoch."""
    samples, first = source.samples(indices, draw), int(indices[0])
    if not draws:
        return guarded("collate", first, collate, samples)
    with preserved():
        seed_globals(draw.keys("collate", draw.epoch, first, 0 if draw.repeats is None else int(draw.repeats[0])))
        return guarded("collate", first, collate, samples)


def _pinned(leaf: Any) -> Any:
    return leaf.pin_memory() if isinstance(leaf, Tensor) and leaf.is_cpu else leaf
