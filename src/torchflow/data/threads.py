"""Reading ahead by threads: for code that draws from generators of its own."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import torch

R = TypeVar("R")


def read_ahead(make: Callable[[R], Any], requests: Iterable[R], threads: int, prefetch: int = 2) -> Iterator[Any]:
    """Yield ``make(request)`` for every request, in order, made ahead of time by threads.

    At most ``prefetch`` batches a thread are under way. What a thread raises is raised here, with its own traceback. Leaving
    early ends the threads.
    """
    _fork.renew_pool()
    waiting: deque[Future[Any]] = deque()
    remaining = iter(requests)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="torchflow-read-ahead")
    try:
        waiting.extend(pool.submit(make, request) for request in islice(remaining, threads * prefetch))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, request) for request in islice(remaining, 1))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
