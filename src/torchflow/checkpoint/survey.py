"""Looking at the folder of a run without changing anything: no lease is taken, nothing is renamed.

A run may be writing meanwhile. What it removes while it is read is left out, and what it published in its place is read.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torchflow.checkpoint.files import FILES, read_file
from torchflow.checkpoint.manifest import MANIFEST, CheckpointName
from torchflow.checkpoint.reading import Loaded, read_checkpoint
from torchflow.checkpoint.shelf import Shelf
from torchflow.checkpoint.store import CHECKPOINTS, LOCK
from torchflow.errors import CheckpointError, CorruptCheckpointError

LOCKS = Path("/proc/locks")
"""Where Linux lists the locks that are held."""
_LOOKS = 1_000
"""How often a folder is listed again because something vanished: a run that publishes without end must not be chased for ever."""

_WRITER = re.compile(r"pid ([0-9]+) on (.+)")


@dataclass(frozen=True)
class Holder:
    """Who writes into a folder.

    Attributes:
        text: Who took the lease last, such as ``"pid 12 on host"``, or None.
        in_use: Whether it is held; None where that cannot be seen from here.
    """

    text: str | None
    in_use: bool | None


@dataclass(frozen=True)
class Examined:
    """One checkpoint as it was found.

    Attributes:
        name: Its step and revision.
        bytes: The length of its files together.
        written: When its manifest was written, in seconds since 1970, or None.
        loaded: What it holds, or None where it is not sound.
        reason: Why it is not sound, or None.
    """

    name: CheckpointName
    bytes: int
    written: float | None
    loaded: Loaded | None
    reason: str | None


def holder_of(folder: Path, locks: Path = LOCKS) -> Holder:
    """Say who writes into a run's folder. Asking for the lock would be a way to know, and keep a run from starting meanwhile."""
    path = folder / LOCK
    try:
        found = os.lstat(path)
        text = read_file(path, limit=2**12).decode("utf-8", "replace").strip() or None
    except FileNotFoundError:
        return Holder(None, False)
    except (OSError, CheckpointError):
        return Holder(None, None)
    writer = _WRITER.fullmatch(text or "")
    try:
        held = any(_is_lock_of(line, found, writer and writer[1]) for line in locks.read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return Holder(text, None)
    # A lock of another machine, or of a container, is not in this machine's list.
    is_from_here = writer is None or writer[2] == socket.gethostname()
    return Holder(text, True if held else False if is_from_here else None)


def leftovers(folder: Path, word: str) -> list[str]:
    """Return the names of what was renamed to ``.<word>-...`` in a run's folder, sorted.

    Raises:
        CheckpointError: The folder cannot be listed.
    """
    names: list[str] = []
    for within in (folder, folder / CHECKPOINTS):
        try:
            names += [name for name in os.listdir(within) if name.startswith(f".{word}-")]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise CheckpointError(f"{within} cannot be listed: {error.strerror or error}.") from error
    return sorted(names)


def examine(folder: Path) -> Iterator[Examined]:
    """Read the checkpoints of a run whole, each as a resume would, the newest first.

    Raises:
        CheckpointError: The folder cannot be listed, or this process ran out of file descriptors or memory.
    """
    shelf = Shelf(folder / CHECKPOINTS, FILES)
    seen: set[CheckpointName] = set()
    for _ in range(_LOOKS):
        vanished = False
        for name in reversed([name for name in shelf.names() if name not in seen]):
            seen.add(name)
            found = _examined(shelf.folder / str(name), name)
            if found is None:
                vanished = True
                break
            yield found
        if not vanished:
            return


def _examined(path: Path, name: CheckpointName) -> Examined | None:
    size, written = _measured(path)
    try:
        return Examined(name, size, written, read_checkpoint(path), None)
    except CorruptCheckpointError as error:
        return Examined(name, size, written, None, str(error)) if os.path.lexists(path) else None


def _measured(path: Path) -> tuple[int, float | None]:
    size, written = 0, None
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                size += found.st_size if stat.S_ISREG(found.st_mode) else 0
                written = found.st_mtime if entry.name == MANIFEST else written
    except OSError:
        pass  # reading it will say why
    return size, written


def _is_lock_of(line: str, file: os.stat_result, pid: str | None) -> bool:
    """Say whether a line such as ``1: FLOCK  ADVISORY  WRITE 18337 fe:00:2146320 0 EOF`` is about a file."""
    words = line.split()
    if len(words) < 6 or words[1] != "FLOCK":
        return False
    major, _, rest = words[5].partition(":")
    minor, _, inode = rest.partition(":")
    if inode != str(file.st_ino):
        return False
    # Some file systems give a file another device than the list does: there, the process that wrote its name decides.
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    return f"{major}:{minor}" == device or words[4] == pid
