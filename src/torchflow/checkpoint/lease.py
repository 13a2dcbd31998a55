"""The lease: one process at a time writes into a run's folder.

An advisory ``flock``, which the kernel gives back when its holder dies, however it dies. Windows has no ``fcntl``:
there, and on file systems without locks, nothing keeps a second process out, and the user is told so once.
"""

from __future__ import annotations

import errno
import os
import socket
import weakref
from pathlib import Path

from torchflow.caller import warn_caller
from torchflow.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class Lease:
    """A held lease.

    Raises:
        CheckpointError: Another live process, or another store of this one, holds it; or the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor: int | None = os.open(path, _OPEN, 0o666)
        except OSError as error:
            raise CheckpointError(
                f"{path} cannot be opened: {error.strerror or error}; the run's folder must be writable."
            ) from error
        try:
            self._lock(self._descriptor)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise CheckpointError(f"{path} cannot be written: {error.strerror or error}.") from error
            raise
        _live.add(self)

    def check(self) -> None:
        """Make sure that the folder was not moved away or replaced since.

        Raises:
            CheckpointError: The lock at the path is not the one that is held.
        """
        try:
            there = os.stat(self._path, follow_symlinks=False)
            held = self._descriptor is not None and os.path.samestat(there, os.fstat(self._descriptor))
        except OSError:
            held = False
        if not held:
            raise CheckpointError(
                f"{self._path} is no longer held by this process: the run's folder was moved, deleted or replaced."
            )

    def release(self) -> None:
        """Give the lease back; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                warn_caller(f"{self._path}: this file system has no locks; see to it that no other run writes here.")
                return
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip() or "another process"
            raise CheckpointError(
                f"{self._path.parent}: the run is in use by {holder}; wait until it has ended, stop it, or choose another folder."
            ) from error


_live: weakref.WeakSet[Lease] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: close the inherited descriptors, so that a worker that outlives the run does not hold its lease."""
    for lease in list(_live):
        lease.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
