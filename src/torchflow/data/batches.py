"""Batches: the samples of an epoch, cut and collated, from any batch on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torchflow import arguments
from torchflow.data.bucketing import Bucketed
from torchflow.data.cutting import LAST_BATCH, Cutting
from torchflow.data.dataset_batches import DatasetBatches
from torchflow.data.interop import as_dataset, yields_batches
from torchflow.data.streams import StreamBatches
from torchflow.data.workers import Workers, workers_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.randomness import Keys
from torchflow.types import LastBatch, State, T_co


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
    data: object,  # anything at all: what it is, and so what its batches are, is found out here
    *,
    keys: Keys,
    name: str,
    batch_size: int | None = None,
    shuffle: bool | Bucketed | None = None,
    last_batch: LastBatch = "keep",
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
        shuffle: Whether each epoch has an order of its own, or :class:`Bucketed`; None is True for "train" and False otherwise.
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
    buckets = shuffle if isinstance(shuffle, Bucketed) else None
    order = None if shuffle is None else buckets is not None or arguments.flag("shuffle", shuffle, hint="Or data.Bucketed().")
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
    orders = None if buckets is None else buckets.over(source, cutting.size)
    return DatasetBatches(source, keys, cutting, workers=ahead, collate=function, pin_memory=pinned, orders=orders)


def _refuse_options(name: str, data: object, options: list[str]) -> None:
    if options:
        raise ArgumentTypeError(
            f"{' and '.join(options)} cannot be given beside {name}: a {type(data).__name__} yields batches that are already made. "
            "Set them there, or pass the dataset itself."
        )
