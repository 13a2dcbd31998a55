"""Reading ahead by processes: for Python of the user, which may draw from the global generators."""

from __future__ import annotations

import multiprocessing
import multiprocessing.reduction
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchflow.data.deaths import DEATHS, hold_deaths_back
from torchflow.data.draw import Draw
from torchflow.data.workers import Workers
from torchflow.errors import DataError
from torchflow.randomness import Keys, generator
from torchflow.tree import leaves, map_leaves

SECONDS_TO_ANSWER = 300
"""How long a worker process may take for one batch before it counts as hanging."""
_UNGUARDED = (
    'A worker that begins with "spawn" imports the script that trains: let it train under if __name__ == "__main__": and see above for '
    "what the worker itself has said."
)
_PLAIN = (Tensor, np.ndarray, np.generic, bool, int, float, complex, str, bytes, type(None))


class Request(NamedTuple):
    """What a worker process is asked for: plain numbers."""

    epoch: int
    indices: list[int]
    repeats: list[int] | None


class Processes:
    """Worker processes, kept from epoch to epoch, through torch's DataLoader.

    Args:
        make: From indices and a draw to a batch; it runs in the workers.
        keys: The keys of the run.
        workers: How many, at least 1, and how they begin.
    """

    def __init__(self, make: Callable[[Tensor, Draw], Any], keys: Keys, workers: Workers) -> None:
        self._answers = _Answers(make, keys)
        self._workers = workers
        self._start = workers.start or ("fork" if sys.platform == "linux" else "spawn")
        self._idle: list[tuple[_Plan, DataLoader[Any]]] = []

    def run(self, requests: Iterable[Request]) -> Iterator[Any]:
        """Yield the batch of every request, in order.

        Raises:
            DataError: A sample could not be made, or a worker died or hung; the message names the samples.
        """
        plan, loader = self._idle.pop() if self._idle else self._started()
        plan.requests = iter(requests)
        earlier = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        made = self._iterator(loader)
        hold_deaths_back(earlier)
        finished = False
        try:
            while (batch := _next(made, plan, self._start)) is not _END:
                plan.pending.popleft()
                yield batch
            if plan.pending:
                raise DataError(f"the worker processes ended before making {plan.place()}. Use workers=0 to see why.")
            finished = True
        finally:
            if finished and self._workers.persistent:  # only workers that have nothing left to do serve again
                self._idle.append((plan, loader))
            else:
                _end(made)

    def close(self) -> None:
        """End the idle processes; those of an epoch end with its iterator."""
        while self._idle:
            _, loader = self._idle.pop()
            _end(loader._iterator)

    def _started(self) -> tuple[_Plan, DataLoader[Any]]:
        plan = _Plan()
        loader: DataLoader[Any] = DataLoader(
            self._answers,
            batch_size=None,
            sampler=cast(Any, plan),
            num_workers=self._workers.number,
            collate_fn=_as_it_is,
            timeout=SECONDS_TO_ANSWER,
            worker_init_fn=partial(_begin, torch.get_default_dtype()),
            generator=generator(0),  # a private one: the DataLoader draws from it instead of from the user's
            multiprocessing_context=self._start,
            persistent_workers=True,
            prefetch_factor=self._workers.prefetch,
        )
        return plan, loader

    def _iterator(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Start the processes, or let those that are there begin an epoch."""
        try:
            return iter(loader)
        except Exception as error:
            if self._start == "fork":
                raise
            raise DataError(
                f"the dataset cannot be sent to a worker process that begins with {self._start!r}: {error}. Define its classes and "
                "functions at the top of a module (no lambda), and open files where they are read; or use workers=0."
            ) from error


class _Plan:
    """The sampler: hands out the requests of an epoch, and remembers which batches are under way."""

    def __init__(self) -> None:
        self.requests: Iterator[Request] = iter(())
        self.pending: deque[list[int]] = deque()

    def __iter__(self) -> Iterator[Request]:
        self.pending.clear()
        for request in self.requests:
            self.pending.append(request.indices)
            yield request

    def place(self) -> str:
        """Return which samples are waited for."""
        if not self.pending:
            return "the first batch"
        indices = self.pending[0]
        more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
        return f"the batch of samples {', '.join(map(str, indices[:8]))}{more}"


class _Failure(NamedTuple):
    """An exception as text: the exception itself may not travel between processes."""

    message: str
    traceback: str


class _Answers(Dataset[Any]):
    """What the DataLoader takes for its dataset: from a request to a batch or a failure."""

    def __init__(self, make: Callable[[Tensor, Draw], Any], keys: Keys) -> None:
        self._make, self._keys = make, keys

    def __getitem__(self, request: Request) -> Any:
        indices = torch.tensor(request.indices)
        repeats = None if request.repeats is None else torch.tensor(request.repeats)
        try:
            batch = self._make(indices, Draw(self._keys, request.epoch).repeated(indices, repeats))
            _check_travels(batch)
        except Exception as error:
            return _Failure(str(error), traceback.format_exc())
        return batch


def _check_travels(batch: Any) -> None:
    """Check that a batch can be sent: otherwise the queue drops it, and the reader waits for ever."""
    if isinstance(batch, Tensor) or (
        type(batch) in (tuple, list, dict) and all(isinstance(leaf, _PLAIN) for leaf in leaves(batch))
    ):
        return
    try:
        multiprocessing.reduction.ForkingPickler.dumps(map_leaves(lambda leaf: 0 if isinstance(leaf, Tensor) else leaf, batch))
    except Exception as error:
        remedy = "Define its class at the top of a module, return tensors, or use workers=0."
        raise DataError(f"a batch of type {type(batch).__name__} cannot be sent between processes: {error}. {remedy}") from error


def _next(made: Iterator[Any], plan: _Plan, start: str) -> Any:
    """Return the next batch, or _END."""
    try:
        with DEATHS.awaited():
            batch = next(made, _END)
    except Exception as error:
        hint = "" if start == "fork" else f" {_UNGUARDED}"
        raise DataError(f"a worker process failed while making {plan.place()}: {error}{hint}") from error
    if isinstance(batch, _Failure):
        raise DataError(f"{batch.message}\n\nIn the worker process:\n{batch.traceback}")
    return batch


def _end(iterator: object) -> None:
    """End the processes of a DataLoader's iterator now: an exception that somebody keeps would keep them alive."""
    shut_down = getattr(iterator, "_shutdown_workers", None)  # private; without it they end when the iterator is collected
    if callable(shut_down):
        shut_down()


def _begin(dtype: torch.dtype, worker: int) -> None:
    """Leave the keyboard to the main process, which may want to finish its update; SIGTERM is torch's own by now."""
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it was killed while it started this worker; torch's own watch would take whoever adopted us for it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_default_dtype(dtype)  # a new interpreter knows nothing of the one that started it


def _as_it_is(value: Any) -> Any:
    return value


_END = object()
