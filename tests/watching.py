"""Watching what code does by an audit hook: whether it imports, executes, starts or opens anything."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORBIDDEN = {"import", "exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "ctypes.dlopen"}


class Watch:
    """An audit hook, which can never be removed, with a switch."""

    def __init__(self) -> None:
        self.on = False
        self.inside: str | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            if self.inside is not None and not _is_in(self.inside, arguments[0]):
                self.seen.append(f"open {arguments[0]!r}")
        elif event in FORBIDDEN or event.startswith(("subprocess.", "socket.")):
            self.seen.append(event)


def _is_in(folder: str, path: Any) -> bool:
    """Say whether a path is in a folder. A number is a descriptor, whose opening by name was seen before."""
    return isinstance(path, int) or os.path.abspath(os.fsdecode(path)).startswith(folder)


class _Tracing:
    """``sys`` for the module threading, in which one thread at a time installs its trace functions.

    Python 3.11 cannot install two at once. Each asks the audit hooks first, and where one of them is written in Python, another
    thread may come in between: under a measurement of coverage the second one would die before it began. What a thread installs is
    called with its first function, and installs another one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)

    def settrace(self, function: Any) -> None:
        def first(*given: Any) -> Any:
            with self._lock:
                return function(*given)

        with self._lock:
            sys.settrace(None if function is None else first)


WATCH = Watch()
threading._sys = _Tracing()  # type: ignore[attr-defined]
sys.addaudithook(WATCH)


@contextmanager
def watched(folder: Path | None = None) -> Iterator[None]:
    """Fail where the block imports, executes or starts anything, or opens a file outside of the folder."""
    WATCH.inside, WATCH.seen, WATCH.on = None if folder is None else str(folder.resolve()), [], True
    try:
        yield
    finally:
        WATCH.on = False
    assert WATCH.seen == []
