"""Every operation that changes a disk, and the one guarded way to read a file.

The operations are methods of one object, so that a test can put another in its place which records them, stops at
the n-th or answers with an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from torchflow.errors import CheckpointError, CorruptCheckpointError

_PRIVATE = (
    os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
# O_NONBLOCK: should a pipe take the file's place after lstat, opening it returns instead of waiting for a writer.
_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


TEMPORARY = ".tmp-"
"""How names begin that nobody but their writer may rely on; the next run sweeps them away."""


class FileSystem:
    """The operations on the disk, one system call each."""

    def make_folder(self, path: Path) -> None:
        """Create a folder whose parent exists."""
        os.mkdir(path)

    def create(self, path: Path) -> int:
        """Create a file that does not exist yet, and return its descriptor."""
        return os.open(path, _PRIVATE, 0o666)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of the bytes, and return how many."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Wait until the bytes of a file are on the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder another name; a file under that name is replaced in the same moment."""
        os.replace(source, target)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk; where folders cannot be opened (Windows), do nothing."""
        if os.name == "nt":
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file or a link."""
        os.unlink(path)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        os.rmdir(path)


FILES = FileSystem()
"""The real disk."""


@contextlib.contextmanager
def refusals(said: str, remedy: str = "") -> Iterator[None]:
    """Turn what the disk refuses into a CheckpointError: what could not be done, the system's reason, and what to do."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{said}: {error.strerror or error}{remedy}.") from error


def write_file(files: FileSystem, path: Path, chunks: Iterable[memoryview]) -> None:
    """Create a file, write all chunks and sync it; an error leaves it half-written."""
    descriptor = files.create(path)
    try:
        for chunk in chunks:
            rest = chunk
            while rest.nbytes:  # a system call may write less than it was given, on Linux never more than 2 GiB
                rest = rest[files.write(descriptor, rest) :]
        files.sync(descriptor)
    finally:
        files.close(descriptor)


def replace_file(files: FileSystem, path: Path, chunks: Iterable[memoryview]) -> None:
    """Write a file so that at every moment either the old one or the new one is there, whole."""
    temporary = path.with_name(f"{TEMPORARY}{path.name[:40]}-{secrets.token_hex(8)}")  # a long name must not become too long
    try:
        write_file(files, temporary, chunks)
        files.rename(temporary, path)
    except BaseException:
        discard(files, temporary)
        raise
    files.sync_folder(path.parent)


def remove_tree(files: FileSystem, path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        for entry in sorted(path.iterdir()):
            remove_tree(files, entry)
        files.remove_folder(path)
    else:
        files.remove(path)


def discard(files: FileSystem, path: Path) -> None:
    """Remove what is left of something abandoned, where that is possible."""
    try:
        if os.path.lexists(path):
            remove_tree(files, path)
    except OSError:
        pass  # it lies under a temporary name and will be swept by the next run


def read_file(path: Path, *, size: int | None = None, limit: int | None = None) -> bytes:
    """Read a regular file once, whole.

    Args:
        path: The file; a link, a folder, a pipe or a device in its place is refused before it is opened.
        size: How many bytes it must have.
        limit: How many bytes it may have.

    Raises:
        CorruptCheckpointError: It is missing, unreadable, no regular file, or of another size.
        CheckpointError: This process ran out of file descriptors or memory, which says nothing about the file.
    """
    try:
        _check_regular(path, os.lstat(path))
        with open(os.open(path, _READ), "rb") as file:
            found = os.fstat(file.fileno())
            _check_regular(path, found)
            if size is not None and found.st_size != size:
                raise CorruptCheckpointError(f"{path} has {found.st_size} bytes where {size} were written.")
            if limit is not None and found.st_size > limit:
                raise CorruptCheckpointError(f"{path} has {found.st_size} bytes, above the limit of {limit}.")
            data = file.read(found.st_size)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise CheckpointError(f"{path} cannot be read now: {error.strerror}; close files or programs and try again.") from error
        raise CorruptCheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) != found.st_size:
        raise CorruptCheckpointError(f"{path} became shorter while it was read.")
    return data


def _check_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise CorruptCheckpointError(f"{path} is {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}, not a regular file.")
