"""The death of a worker process, told of where a batch is waited for and nowhere else."""

from __future__ import annotations

import contextlib
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


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

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Raise for a death in this block, also for one that came before it."""
        self.waits = True
        try:
            if self.missed and self.raise_for is not None:
                self.missed = False
                self.raise_for(signal.SIGCHLD, None)
            yield
        finally:
            self.waits = False


DEATHS = _Deaths()
"""The deaths of this process's workers."""


def hold_deaths_back(earlier: object) -> None:
    """Put our handler in the place of torch's, which was set just now where there had been an earlier one."""
    main = threading.current_thread() is threading.main_thread()  # elsewhere torch hears nothing either
    handler = signal.getsignal(signal.SIGCHLD) if main and hasattr(signal, "SIGCHLD") else None
    if callable(handler) and str(getattr(handler, "__module__", "")).startswith("torch.utils.data"):
        if earlier is handler:  # set by a DataLoader of the user's own; what it replaced is known to itself alone
            earlier = inspect.getclosurevars(handler).nonlocals.get("previous_handler")
        DEATHS.raise_for, DEATHS.earlier = handler, earlier
        signal.signal(signal.SIGCHLD, DEATHS)
