"""Batches: the samples of an epoch, cut and collated, from any batch on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.cutting import LAST_BATCH, Cutting
from torchflow.data.draw import Draw
from torchflow.data.fingerprint import content_of
from torchflow.data.interop import as_dataset, yields_batches
from torchflow.data.order import LookedUp, Order, algorithm_of, order_of
from torchflow.data.sources import Source, guarded
from torchflow.data.streams import StreamBatches
from torchflow.data.views import Select
from torchflow.data.workers import Workers, workers_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError
from torchflow.randomness import Keys
from torchflow.tree import map_leaves
from torchflow.types import State, T_co

if TYPE_CHECKING:
    from torchflow.data.processes import Processes


class Batches(Protocol[T_co]):
    """What a loop reads: the batches of an epoch, from any batch on.

    Attributes:
        length: Batches in an epoch; None for a stream that does not say.
        samples: Samples in an epoch; None for a stream.
    """

    length: int | None
    samples: int | None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[T_co]:
        """Return the batches of an epoch from batch ``start`` on."""
        ...

    def indices(self, epoch: int, batch: int) -> list[int] | None:
        """Return the sample indices of one batch, for messages; None for a stream."""
        ...

    def describe(self) -> dict[str, State]:
        """Return what must be the same for a run to go on."""
        ...

    def close(self) -> None:
        """End the workers; calling it again does nothing."""
        ...


def batches_of(
    data: object,
    *,
    keys: Keys,
    name: str,
    batch_size: int | None = None,
    shuffle: bool | None = None,
    last_batch: str = "keep",
    workers: int | Workers = 0,
    collate: Callable[[list[Any]], Any] | None = None,
    pin_memory: bool = False,
) -> Batches[Any]:
    """Return the batches of whatever data a user has.

    Args:
        data: Anything that :func:`as_dataset` takes, or an iterable of batches, a DataLoader for example.
        keys: The keys of the run: the order of epoch e is under ``keys("order", e)``.
        name: The argument's name for error messages, such as "train".
        batch_size: Samples in a batch; None is 32.
        shuffle: Whether each epoch has an order of its own; None is True for "train" and False otherwise.
        last_batch: What becomes of a last batch that is too small: "keep" it, "drop" it, or "pad" it with the first
            samples of the same epoch's order, which then count twice.
        workers: How many threads (for torchflow's own sources and random maps) or processes (for Python of the user)
            make batches ahead of time; 0 makes each when it is asked for, and :class:`Workers` says more. The batches are the same.
        collate: From a list of samples to a batch; None is :func:`torchflow.data.collate`.
        pin_memory: Whether batches go to page-locked memory, where there is CUDA.

    Raises:
        ArgumentTypeError: An argument of the wrong type, or an option for batches that are already made.
        ArgumentValueError: An impossible value, or a dropped last batch that was the only one.
        DataError: The data is empty, or is not what it was taken for.
    """
    size = arguments.whole_or_none("batch_size", batch_size)
    order = None if shuffle is None else arguments.flag("shuffle", shuffle)
    last = arguments.one_of("last_batch", last_batch, LAST_BATCH)
    ahead = workers_of(workers)
    function = None if collate is None else arguments.function("collate", collate)
    pinned = arguments.flag("pin_memory", pin_memory)
    if yields_batches(data, name):
        changed = None if last == "keep" else last
        given: dict[str, object] = {
            "batch_size": size,
            "shuffle": order,
            "last_batch": changed,
            "workers": ahead.number or None,
            "collate": function,
        }
        _refuse_options(name, data, [option for option, value in given.items() if value is not None])
        return StreamBatches(data, keys, name)
    source = as_dataset(data, name=name).source
    cutting = Cutting(source.length, size or 32, (name == "train") if order is None else order, last)
    if not cutting.batches:
        remedy = f'Use a batch_size of at most {source.length}, or last_batch="keep".'
        raise ArgumentValueError(
            f'last_batch="drop" leaves none of {name}: {source.length} samples, batch_size {cutting.size}. {remedy}'
        )
    return DatasetBatches(source, keys, cutting, workers=ahead, collate=function, pin_memory=pinned)


class DatasetBatches:
    """The batches of a dataset: any batch of any epoch is found at once, and nothing is remembered between them.

    Args:
        source: Where the samples are.
        keys: The keys of the run.
        cutting: How an epoch is ordered and cut.
        workers: Threads or processes that read ahead.
        collate: From a list of samples to a batch, or None.
        pin_memory: Whether batches go to page-locked memory.
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
    ) -> None:
        self.length: int | None = cutting.batches
        self.samples: int | None = cutting.samples
        self._source, self._keys, self._cutting = source, keys, cutting
        self._workers = workers
        self._pin = pin_memory and torch.cuda.is_available()
        self._table: Tensor | None = None
        # No method of this object, which holds processes and cannot be sent to one.
        self._make: Callable[[Tensor, Draw], Any] = partial(_standard, source)
        if collate is not None:
            self._make = partial(_collated, source, collate)
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
            "order": algorithm_of(cutting.length, cutting.shuffle),
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
        if self._workers.number and self._source.foreign:
            yield from self._in_processes(epoch, cuts)
        elif self._workers.number:
            from torchflow.data.threads import read_ahead  # noqa: PLC0415  (most runs read inline, and need none of it)

            ahead = self._workers
            yield from read_ahead(lambda cut: self._make(cut[0], draw.repeated(*cut)), cuts, ahead.number, ahead.prefetch)
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
            key = self._keys("order", epoch) if self._cutting.shuffle else None
            latest = self._latest = (epoch, order_of(self._cutting.length, key))
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


def _collated(source: Source, collate: Callable[[list[Any]], Any], indices: Tensor, draw: Draw) -> Any:
    """Return a batch made by the user's own function."""
    return guarded("collate", int(indices[0]), collate, source.samples(indices, draw))


def _pinned(leaf: Any) -> Any:
    return leaf.pin_memory() if isinstance(leaf, Tensor) and leaf.is_cpu else leaf


def _refuse_options(name: str, data: object, options: list[str]) -> None:
    if options:
        raise ArgumentTypeError(
            f"{' and '.join(options)} cannot be given beside {name}: a {type(data).__name__} yields batches that are already made. "
            "Set them there, or pass the dataset itself."
        )
