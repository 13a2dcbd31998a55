"""Reading ahead: threads for code that draws from generators, processes for code that draws from the globals."""

from __future__ import annotations

import multiprocessing
import multiprocessing.reduction
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import FrameType
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchflow.errors import DataError
from torchflow.randomness import generator
from torchflow.tree import leaves, map_leaves

R = TypeVar("R")
SECONDS_TO_ANSWER = 300
"""How long a worker process may take for one batch before it counts as hanging."""
_AHEAD = 2  # batches under way for each worker
_PLAIN = (Tensor, np.ndarray, np.generic, bool, int, float, complex, str, bytes, type(None))


class Request(NamedTuple):
    """What a worker process is asked for: plain numbers."""

    epoch: int
    indices: list[int]
    repeats: list[int] | None


def read_ahead(make: Callable[[R], Any], requests: Iterable[R], threads: int) -> Iterator[Any]:
    """Yield ``make(request)`` for every request, in order, made ahead of time by threads.

    At most two batches a thread are under way. What a thread raises is raised here, with its own traceback. Leaving
    early ends the threads.
    """
    waiting: deque[Future[Any]] = deque()
    remaining = iter(requests)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="torchflow-read-ahead")
    try:
        waiting.extend(pool.submit(make, request) for request in islice(remaining, threads * _AHEAD))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, request) for request in islice(remaining, 1))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Processes:
    """Worker processes, kept from epoch to epoch, through torch's DataLoader.

    Args:
        answer: From a request to a batch; it runs in the workers.
        workers: How many, at least 1.
    """

    def __init__(self, answer: Callable[[Request], Any], workers: int) -> None:
        self._answer = answer
        self._workers = workers
        self._idle: list[tuple[_Plan, DataLoader[Any]]] = []

    def run(self, requests: Iterable[Request]) -> Iterator[Any]:
        """Yield the batch of every request, in order.

        Raises:
            DataError: A sample could not be made, or a worker died or hung; the message names the samples.
        """
        plan, loader = self._idle.pop() if self._idle else self._started()
        plan.requests = iter(requests)
        earlier = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        made = iter(loader)
        _hold_deaths_back(earlier)
        finished = False
        try:
            while (batch := _next(made, plan)) is not _END:
                plan.pending.popleft()
                yield batch
            if plan.pending:
                raise DataError(f"the worker processes ended before making {plan.place()}. Use workers=0 to see why.")
            finished = True
        finally:
            if finished:  # only workers that have nothing left to do serve again
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
            _Answers(self._answer),
            batch_size=None,
            sampler=cast(Any, plan),
            num_workers=self._workers,
            collate_fn=_as_it_is,
            timeout=SECONDS_TO_ANSWER,
            worker_init_fn=_begin,
            generator=generator(0),  # a private one: the DataLoader draws from it instead of from the user's
            multiprocessing_context=multiprocessing.get_context("fork") if sys.platform == "linux" else None,
            persistent_workers=True,
            prefetch_factor=_AHEAD,
        )
        return plan, loader


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

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self._answer = answer

    def __getitem__(self, request: Request) -> Any:
        try:
            batch = self._answer(request)
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


def _next(made: Iterator[Any], plan: _Plan) -> Any:
    """Return the next batch, or _END."""
    try:
        _deaths.waits = True
        try:
            _deaths.check()
            batch = next(made, _END)
        finally:
            _deaths.waits = False
    except Exception as error:
        raise DataError(f"a worker process failed while making {plan.place()}: {error}") from error
    if isinstance(batch, _Failure):
        raise DataError(f"{batch.message}\n\nIn the worker process:\n{batch.traceback}")
    return batch


class _Deaths:
    """At SIGCHLD torch raises wherever the main thread is, in the middle of an update, say; here, only where a batch is waited for."""

    waits = missed = False
    raise_for: Callable[[int, FrameType | None], Any] | None = None
    earlier: object = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.waits and self.raise_for is not None:
            self.raise_for(number, frame)  # which calls the earlier handler too
        else:
            self.missed = True
            if callable(self.earlier):
                self.earlier(number, frame)

    def check(self) -> None:
        if self.missed and self.raise_for is not None:
            self.missed = False
            self.raise_for(signal.SIGCHLD, None)


_deaths = _Deaths()


def _hold_deaths_back(earlier: object) -> None:
    """Put our handler in the place of torch's, which was set just now where there had been an earlier one."""
    main = threading.current_thread() is threading.main_thread()  # elsewhere torch hears nothing either
    handler = signal.getsignal(signal.SIGCHLD) if main and hasattr(signal, "SIGCHLD") else None
    if callable(handler) and str(getattr(handler, "__module__", "")).startswith("torch.utils.data"):
        _deaths.raise_for, _deaths.earlier = handler, earlier
        signal.signal(signal.SIGCHLD, _deaths)


def _end(iterator: object) -> None:
    """End the processes of a DataLoader's iterator now: an exception that somebody keeps would keep them alive."""
    shut_down = getattr(iterator, "_shutdown_workers", None)  # private; without it they end when the iterator is collected
    if callable(shut_down):
        shut_down()


def _begin(worker: int) -> None:
    """Leave the keyboard to the main process, which may want to finish its update; SIGTERM is torch's own by now."""
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it was killed while it started this worker; torch's own watch would take whoever adopted us for it
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_it_is(value: Any) -> Any:
    return value


_END = object()
