"""Files that may be compressed by gzip, known by their content and never read beyond a limit."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from torchflow.data.readers.regular import why_not_a_file
from torchflow.errors import FileError

_PIECE = 2**20


def opened(path: str) -> IO[bytes]:
    """Open a regular file for reading, inflated where its content is gzip.

    Raises:
        FileError: There is no such file, or it is none that can be read twice.
    """
    reason = why_not_a_file(path)
    if reason is not None:
        raise FileError(f"{path} cannot be read: {reason}. Correct the path, or leave it out.", path)
    with open(path, "rb") as file:
        inflates = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if inflates else open(path, "rb")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what reading a file may raise into a FileError that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        said = "is cut: its gzip stream has no end" if isinstance(error, EOFError) else f"is damaged as gzip: {error}"
        raise FileError(f"{path} {said}. Copy or download it again.", path) from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}. Check its rights.", path) from error


def content_of(path: str, at_most: int, keyword: str) -> bytes:
    """Return the content of a file, inflated.

    Args:
        path: The file.
        at_most: How many bytes it may have once inflated.
        keyword: The argument that raises the limit.

    Raises:
        FileError: It has more, is damaged, or cannot be read.
    """
    found = bytearray()
    with reading(path), opened(path) as file:
        while piece := file.read(_PIECE):
            found += piece
            if len(found) > at_most:
                raise FileError(f"{path} has more than {at_most:,} bytes once inflated. If that is meant, raise {keyword}=.", path)
    return bytes(found)
