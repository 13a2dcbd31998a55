"""Who uses a cache on disk: a lock that readers share, and that whoever clears caches asks for alone."""

from __future__ import annotations

import os
import stat
import weakref
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which keeps files that are open from being removed
    fcntl = None  # type: ignore[assignment]

_OPEN = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class Use:
    """The use of a cache, which ends with this object, or with the process however that ends.

    Args:
        descriptor: The folder, open and locked; None where folders have no locks.
    """

    def __init__(self, descriptor: int | None) -> None:
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)  # a process that was forked meanwhile goes on using it


def use_of(folder: Path) -> Use | None:
    """Return the use of a cache's folder, which counts as the time when it was used last; None where there is no such folder.

    It waits while somebody clears the folder, and there is none then.

    Raises:
        OSError: The folder cannot be opened.
    """
    if fcntl is None:
        return Use(None) if folder.is_dir() else None
    try:
        descriptor = os.open(folder, _OPEN)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with suppress(OSError):  # on file systems without locks nothing is kept from clearing it
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not _is_there(folder, descriptor):
            os.close(descriptor)
            return None
        with suppress(OSError):  # it may be somebody else's, or on a disk that is only read
            os.utime(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return Use(descriptor)


def made_and_used(folder: Path) -> Use:
    """Return the use of a cache's folder, which is made where it is missing.

    Raises:
        OSError: It cannot be made or opened.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if _is_something_else(folder):
                raise
        found = use_of(folder)
        if found is not None:
            return found


def is_used(folder: Path) -> bool | None:
    """Return whether somebody uses a cache's folder; None where that cannot be seen."""
    return _alone(folder, None)


def taken(folder: Path, target: Path) -> bool | None:
    """Give a folder that nobody uses another name, under which nobody finds it.

    Returns:
        False where somebody uses it, None where that cannot be seen; nothing has happened then.

    Raises:
        OSError: It cannot be renamed.
    """
    used = _alone(folder, target)
    return None if used is None else not used


def _alone(folder: Path, target: Path | None) -> bool | None:
    """Return whether somebody uses a folder, and rename it where nobody does."""
    descriptor = None
    try:
        if fcntl is not None:
            try:
                descriptor = os.open(folder, _OPEN | _NO_LINK)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except FileNotFoundError:
                if target is not None:
                    raise
                return False
            except OSError:
                return None
        if target is not None:
            os.rename(folder, target)
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_something_else(path: Path) -> bool:
    """Say whether a path is taken by what is no folder; a folder that was there a moment ago may have been cleared since."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _is_there(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False
