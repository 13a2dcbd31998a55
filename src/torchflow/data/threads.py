"""Reading ahead by threads: for code that draws from generators of its own."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from itertools import islice
from typing import Any, TypeVar

import torch

R = TypeVar("R")
T = TypeVar("T")


def read_ahead(
    make: Callable[[R], Any], requests: Iterable[R], threads: int, prefetch: int = 2, *, shared: bool = False
) -> Iterator[Any]:
    """Yield ``make(request)`` for every request, in order, made ahead of time by threads.

    At most ``prefetch`` batches a thread are under way. What a thread raises is raised here, with its own traceback. Leaving
    early ends the threads.

    Args:
        make: Makes a batch; called by several threads at once.
        requests: What to make.
        threads: How many threads.
        prefetch: How many batches are under way for each thread.
        shared: Whether ``make`` calls :func:`each`. Until the first batch is there nobody can train, so all threads share it.
    """
    _fork.renew_pool()
    waiting: deque[Future[Any]] = deque()
    remaining = iter(requests)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="torchflow-read-ahead")

    def start() -> None:
        waiting.extend(pool.submit(make, request) for request in islice(remaining, threads * prefetch))

    try:
        if shared and threads > 1:
            for request in islice(remaining, 1):
                made = _Together(pool, threads, start).make(make, request)
                if not waiting:  # nothing of it was shared: all was in a cache, say
                    start()
                yield made
        else:
            start()
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, request) for request in islice(remaining, 1))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def each(function: Callable[..., T], *columns: Sequence[Any]) -> list[T]:
    """Return ``function(*row)`` for every row, in order; where nothing else can be done meanwhile, by all threads that read ahead.

    Args:
        function: Called by several threads at once.
        columns: Its arguments, equally many of each.
    """
    rows = list(zip(*columns, strict=True))
    together = _TOGETHER.get()
    return [function(*row) for row in rows] if together is None else together.each(function, rows)


class _Together:
    """One batch that all threads make together.

    Args:
        pool: The threads.
        threads: How many they are.
        start: Lets them go on with the next batches; called when the last piece of this one has been given out.
    """

    def __init__(self, pool: ThreadPoolExecutor, threads: int, start: Callable[[], None]) -> None:
        self._pool, self._pieces, self._start = pool, PIECES * threads, start

    def make(self, make: Callable[[R], Any], request: R) -> Any:
        """Make the batch; what :func:`each` is called for first is shared."""
        token = _TOGETHER.set(self)
        try:
            return make(request)
        finally:
            _TOGETHER.reset(token)

    def each(self, function: Callable[..., T], rows: list[tuple[Any, ...]]) -> list[T]:
        """Give out the rows in pieces."""
        _TOGETHER.set(None)  # the threads have other batches to make from now on
        size = max(1, math.ceil(len(rows) / self._pieces))
        pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
        shared = [self._pool.submit(lambda piece: [function(*row) for row in piece], piece) for piece in pieces]
        self._start()
        return [made for piece in shared for made in piece.result()]


_TOGETHER: ContextVar[_Together | None] = ContextVar("_TOGETHER", default=None)
PIECES = 4
"""Into how many pieces for each thread a batch is cut: some files take longer than others."""


class _Fork:
    """Whether this process was forked and has not yet renewed torch's pool of threads.

    In a forked child torch replaces its pool at the first call that wants it, in two moves: a second thread that calls between
    them finds none ("Invalid thread pool!"). So one thread calls before there are others.
    """

    def __init__(self) -> None:
        self._is_new = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._happened)

    def _happened(self) -> None:
        self._is_new = True

    def renew_pool(self) -> None:
        """Let torch make its pool anew, once after a fork; the number of threads stays."""
        if self._is_new:
            torch.set_num_threads(torch.get_num_threads())
            self._is_new = False


_fork = _Fork()
