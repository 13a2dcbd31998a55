"""Regular files: what is none, and the bytes of one."""

from __future__ import annotations

import os
import stat

from torchflow.errors import FileError

BYTES_TO_STAMP = 4096  # at either end of a file


def why_not_a_file(path: str) -> str | None:
    """Return why a path cannot be read as a file; None where it can."""
    try:
        found = os.stat(path)
    except OSError as error:
        return "there is no such file" if isinstance(error, FileNotFoundError) else f"it cannot be looked at: {error.strerror}"
    except ValueError as error:  # a NUL in the name
        return str(error)
    if stat.S_ISDIR(found.st_mode):
        return "it is a folder"
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file but a pipe, a socket or a device"
    return None if found.st_size else "it is empty"


def read_bytes(path: str, at_most: int, keyword: str) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        at_most: How many bytes it may have.
        keyword: The argument that raises the limit, for the message.

    Raises:
        FileError: It is larger, or is no regular file.
    """
    reason = why_not_a_file(path)
    if reason is not None:
        raise FileError(f"{path} cannot be read: {reason}.", path)
    with open(path, "rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise FileError(f"{path} has more than {at_most:,} bytes. Raise the limit with {keyword}= if that is meant.", path)
    return content


def ends_of(path: str) -> bytes:
    """Return the size of a file and its first and last bytes."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(BYTES_TO_STAMP)
        file.seek(max(len(first), size - BYTES_TO_STAMP))
        return size.to_bytes(8, "big") + first + file.read(BYTES_TO_STAMP)
