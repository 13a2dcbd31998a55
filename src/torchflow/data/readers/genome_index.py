"""Where the sequences of a large FASTA file begin, found by pyfaidx: it runs in a bounded child process, without torchflow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator


def entries(path: str, index: str | None) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield ``(name, bases, offset, bases of a line, bytes of a line)`` of every sequence.

    Args:
        path: The FASTA file, plain.
        index: Where the index is kept, in the format of samtools; None keeps none.

    Raises:
        ValueError: The file cannot be indexed; the message says why.
    """
    with tempfile.TemporaryDirectory(prefix="torchflow-index-") as aside:
        if index is None or not os.path.exists(index):
            made = os.path.join(aside, "index.fai")
            yield from _indexed(path, made)
            if index is not None:
                _keep(made, index)
        else:
            yield from _indexed(path, index)


def _indexed(path: str, index: str) -> Iterator[tuple[str, int, int, int, int]]:
    import pyfaidx  # noqa: PLC0415

    try:
        faidx = pyfaidx.Faidx(path, indexname=index, rebuild=False)
    except (pyfaidx.FastaIndexingError, pyfaidx.IndexNotFoundError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    try:
        for name, record in faidx.index.items():
            yield name, record.rlen, record.offset, record.lenc, record.lenb
    finally:
        faidx.close()


def _keep(made: str, index: str) -> None:
    """Put an index into its place in one piece."""
    beside = f"{index}.{os.getpid()}"
    with open(made, "rb") as source, open(beside, "wb") as target:
        target.write(source.read())
    os.replace(beside, index)
