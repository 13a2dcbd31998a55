"""Where the sequences of a large FASTA file lie, so that a stretch of one is found without reading the rest."""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torchflow.data.readers.child import rows_of_child
from torchflow.data.readers.fastx import Limits, scan
from torchflow.data.readers.inflated import opened
from torchflow.errors import FileError, MissingExtraError

MAX_BYTES = 2**36
MAX_LENGTH = 2**28
_MEMORY = 2**31
_SECONDS, _BYTES_A_SECOND = 60, 5_000_000  # the indexer is given this time, and more for large files


class Stretch(NamedTuple):
    """Where a sequence lies in its file.

    Attributes:
        bases: How many it has.
        offset: Where the first is.
        line_bases: How many stand in a line.
        line_bytes: How many bytes a line has, its end included.
    """

    bases: int
    offset: int
    line_bases: int
    line_bytes: int


def indexed(path: str, cache: Path | None, longest: int) -> dict[str, Stretch]:
    """Return where the sequences of a FASTA file lie.

    Args:
        path: The file.
        cache: A folder for the index, or None.
        longest: The most bytes of one line.

    Raises:
        FileError: It is no plain FASTA with lines of one length.
        MissingExtraError: pyfaidx is not installed.
    """
    if find_spec("pyfaidx") is None:
        raise MissingExtraError(
            "windows over a genome need pyfaidx, which is not installed. Use: pip install 'torchflow-train[dna]'"
        )
    if _is_gzip(path):
        remedy = "Decompress the file, or read its records whole with from_fasta."
        raise FileError(
            f"{path} is compressed by gzip, where no window can be found without inflating all before it. {remedy}", path
        )
    size, changed = state_of(path)
    index = None if cache is None else _place_in(cache, f"{os.path.realpath(path)} {size} {changed}")
    if index is not None and index.exists():
        return _entries(path, index, size)
    scan(path, "FASTA", Limits(bytes=MAX_BYTES, length=longest), by_line=True)
    with tempfile.TemporaryDirectory(prefix="torchflow-index-", dir=cache) as aside:
        made = Path(aside) / "index.fai"
        found = _entries(path, made, size)
        if index is not None:
            os.replace(made, index)  # in one piece: another process may be doing the same
    return found


def _place_in(cache: Path, said: str) -> Path:
    """Return where the index of a file in some state is kept."""
    name = hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"the cache folder {cache} cannot be made: {error.strerror or error}. Name another one.", cache) from error
    return cache.absolute() / f"genome-{name}.fai"


def _entries(path: str, index: Path, size: int) -> dict[str, Stretch]:
    """Return where the sequences lie, as the child process finds them."""
    found: dict[str, Stretch] = {}
    for name, *numbers in rows_of_child(
        "torchflow.data.readers.genome_index",
        "entries",
        [os.path.abspath(path), str(index)],
        path=path,
        memory=_MEMORY,
        seconds=_SECONDS + size / _BYTES_A_SECOND,
    ):
        found[name] = _checked_stretch(path, name, Stretch(*numbers), size)
    if not found:
        raise FileError(f"{path} holds no sequence. Pass a FASTA file with at least one.", path)
    return found


def _checked_stretch(path: str, name: str, stretch: Stretch, size: int) -> Stretch:
    """Check what an index says, for it may be an old file of a cache."""
    bases, offset, line_bases, line_bytes = stretch
    if min(bases, line_bases) < 1 or not line_bases <= line_bytes <= line_bases + 2:
        raise FileError(f"{path}, {name!r} has no bases, or lines that cannot be. Take it out of the file.", path)
    if offset < 0 or offset + (bases - 1) // line_bases * line_bytes + (bases - 1) % line_bases >= size:
        raise FileError(f"the index of {path} does not fit the file. Delete it from the cache folder.", path)
    return stretch


def _is_gzip(path: str) -> bool:
    with opened(path) as file:
        return isinstance(file, gzip.GzipFile)


def state_of(path: str) -> tuple[int, int]:
    """Return the size of a file and when it was changed last, in nanoseconds."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
