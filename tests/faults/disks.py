"""The library's one layer of file operations, with something that happens at an operation. Only ever used inside a child."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torchflow.checkpoint.files import FileSystem
from torchflow.checkpoint.store import Store

OPERATIONS = ("make_folder", "create", "write", "sync", "close", "rename", "sync_folder", "remove", "remove_folder")

Hook = Callable[[int, str, tuple[Any, ...]], None]


def watch_operations(*, before: Hook | None = None, after: Hook | None = None) -> None:
    """From now on in this process, call functions with the number, the name and the arguments of every file operation."""
    numbers = iter(range(10**9))

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(self: FileSystem, *given: Any) -> Any:
            number = next(numbers)
            if before is not None:
                before(number, name, given)
            made = original(self, *given)
            if after is not None:
                after(number, name, given)
            return made

        return operation

    for name in OPERATIONS:
        setattr(FileSystem, name, watched(name, getattr(FileSystem, name)))


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Take back whatever the block does to the layer of file operations and to reports."""
    operations, publish = {name: getattr(FileSystem, name) for name in OPERATIONS}, Store.publish
    try:
        yield
    finally:
        for name, operation in operations.items():
            setattr(FileSystem, name, operation)
        Store.publish = publish  # type: ignore[method-assign]


def die() -> None:
    """Be killed, now."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def die_after(wanted: int) -> None:
    """Be killed right after a file operation."""
    watch_operations(after=lambda number, name, given: die() if number == wanted else None)


def die_half_way(wanted: int) -> None:
    """Be killed when a write has written the half of its bytes; after any other operation's beginning, before it did anything."""

    def half(number: int, name: str, given: tuple[Any, ...]) -> None:
        if number != wanted:
            return
        if name == "write":
            os.write(given[0], given[1][: len(given[1]) // 2])
        die()

    watch_operations(before=half)


def record_operations(path: Path) -> None:
    """Write the name of every file operation into a file."""

    def record(number: int, name: str, given: tuple[Any, ...]) -> None:
        with path.open("a") as file:
            file.write(f"{name}\n")

    watch_operations(after=record)


def record_reports(path: Path) -> None:
    """Write the step of every checkpoint that was reported as saved into a file, as soon as it was."""
    publish = Store.publish

    def recorded(self: Store, step: int, *given: Any, **named: Any) -> Path:
        made = publish(self, step, *given, **named)
        with path.open("a") as file:
            file.write(f"{step}\n")
        return made

    Store.publish = recorded  # type: ignore[method-assign]


def reported(path: Path) -> list[int]:
    """Return the steps that were reported."""
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []
