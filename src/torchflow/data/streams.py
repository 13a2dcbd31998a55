"""Batches that come from somewhere else: a DataLoader, or any other iterable."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from torchflow.errors import DataError, TorchflowError
from torchflow.randomness import Keys, preserved, seed_globals
from torchflow.types import State


class StreamBatches:
    """The batches of an iterable, as they come.

    At the start of an epoch, and before every batch, the global generators stand under keys of the epoch and batch;
    in between they are the loop's. Where an iterable keeps random state of its own, or reads from something that
    changes, a resumed run cannot be promised to see the same batches.

    Args:
        data: An iterable of batches; an iterator serves for one epoch.
        keys: The keys of the run.
        name: The argument's name for error messages.
    """

    def __init__(self, data: Any, keys: Keys, name: str) -> None:
        self.length: int | None = _length(data, name)
        self.samples: int | None = None
        self._data, self._keys, self._name = data, keys, name
        self._once = isinstance(data, Iterator)
        self._used = False
        self._warned = False

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Return the batches of an epoch; those before ``start`` are made and thrown away."""
        if self._once and self._used:
            remedy = "Pass a list, a Dataset, a DataLoader, or an object whose __iter__ begins anew."
            raise DataError(f"{self._name} is a {type(self._data).__name__}, which gives one epoch and is exhausted. {remedy}")
        if start and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._name} is a {type(self._data).__name__}: its first {start} batches are made again and skipped, and nothing "
                "can promise that they are the ones that were seen. Pass the dataset itself for an exact resume.",
                UserWarning,
                stacklevel=2,
            )
        self._used = True
        return self._epoch(epoch, start)

    def indices(self, epoch: int, batch: int) -> list[int] | None:
        """Return None: nobody knows the samples of a stream."""
        return None

    def describe(self) -> dict[str, State]:
        """Return the type and the length."""
        kind = type(self._data)
        return {"kind": "stream", "type": f"{kind.__module__}.{kind.__qualname__}", "batches": self.length}

    def close(self) -> None:
        """Do nothing: the iterable is the user's."""

    def _epoch(self, epoch: int, start: int) -> Iterator[Any]:
        with preserved():
            seed_globals(self._keys("order", epoch))
            set_epoch = getattr(getattr(self._data, "sampler", None), "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)
            made = iter(self._data)
        count = 0
        while True:
            batch = self._next(made, epoch, count)
            if batch is _END:
                break
            count += 1
            if self.length is not None and count > self.length:
                raise DataError(f"{self._name} says that it has {self.length} batches and gave more. Correct its __len__.")
            if count > start:
                yield batch
        if not count:
            raise DataError(f"{self._name} gave no batch in epoch {epoch}. Pass data with at least one.")
        if self.length is not None and count < self.length:
            raise DataError(
                f"{self._name} says that it has {self.length} batches and gave {count} in epoch {epoch}. Correct its __len__."
            )

    def _next(self, made: Iterator[Any], epoch: int, count: int) -> Any:
        """Return the next batch, made under the keys of its place, or _END."""
        try:
            with preserved():
                seed_globals(self._keys("order", epoch, count))
                return next(made, _END)
        except TorchflowError:
            raise
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise DataError(f"{self._name} failed at batch {count} of epoch {epoch}: it raised {said}.") from error


def _length(data: Any, name: str) -> int | None:
    """Return how many batches an iterable says that it has, or None."""
    try:
        length = len(data)
    except TypeError:  # no __len__, or a DataLoader over a dataset without one
        return None
    except Exception as error:
        raise DataError(f"len({name}) failed: {type(error).__name__}: {error}. Correct its __len__.") from error
    if not length:
        raise DataError(f"{name} has no batches: its length is 0.")
    return int(length)


_END = object()
