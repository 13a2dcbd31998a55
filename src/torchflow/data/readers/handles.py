"""Open files that every process opens for itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

H = TypeVar("H")


class PerProcess(Generic[H]):
    """Handles that are opened lazily, once for each process and each thread that uses one at the same time.

    A handle that crosses a fork shares its position with the parent, and reads wrong data without an exception. Here a
    forked process opens its own, a pickled copy travels without any, and no two threads ever hold the same one.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_text("ACGT")
    >>> handles = PerProcess(open)
    >>> with handles.borrowed(path) as file:
    ...     _ = file.seek(2)
    ...     file.read()
    'GT'

    Args:
        open_one: From a key, usually the path, to a handle; it can be pickled, as a function at the top of a module can.
        keep: How many handles stay open while nobody uses them; the one that has waited longest is closed first.
    """

    def __init__(self, open_one: Callable[[Any], H], keep: int = 16) -> None:
        self._open = open_one
        self._keep = keep
        self._shelf: _Shelf[H] = _Shelf()

    @contextmanager
    def borrowed(self, key: Hashable) -> Iterator[H]:
        """Lend the handle of a key; one that was in use when something was raised is closed and not lent again."""
        shelf = self._own()
        handle = shelf.taken(key)
        if handle is None:
            handle = self._open(key)
        try:
            yield handle
        except BaseException:
            _close(handle)
            raise
        for old in shelf.put_back(key, handle, self._keep):
            _close(old)

    def close(self) -> None:
        """Close the handles of this process that nobody uses."""
        shelf = self._own()
        for old in shelf.emptied():
            _close(old)

    def _own(self) -> _Shelf[H]:
        """Return the shelf of this process: after a fork a new one, with a lock that no other thread holds."""
        shelf = self._shelf
        if shelf.process != os.getpid():
            self._shelf = shelf = _Shelf()  # two threads may each make one: the handles of the other are closed when collected
        return shelf

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": self._open, "_keep": self._keep}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _shelf=_Shelf())


@dataclass
class _Shelf(Generic[H]):
    """The handles of one process that nobody uses at the moment, the latest last."""

    process: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    free: list[tuple[Hashable, H]] = field(default_factory=list)

    def taken(self, key: Hashable) -> H | None:
        with self.lock:
            for place in reversed(range(len(self.free))):
                if self.free[place][0] == key:
                    return self.free.pop(place)[1]
        return None

    def put_back(self, key: Hashable, handle: H, keep: int) -> list[H]:
        """Put a handle back; return those for which there is no room."""
        if self.process != os.getpid():
            return [handle]
        with self.lock:
            self.free.append((key, handle))
            surplus = max(0, len(self.free) - keep)
            old, self.free = self.free[:surplus], self.free[surplus:]
        return [other for _, other in old]

    def __del__(self) -> None:
        if self.process == os.getpid():
            for _, handle in self.free:
                _close(handle)

    def emptied(self) -> list[H]:
        with self.lock:
            old, self.free = self.free, []
        return [handle for _, handle in old]


def _close(handle: object) -> None:
    close = getattr(handle, "close", None)
    if callable(close):
        close()
