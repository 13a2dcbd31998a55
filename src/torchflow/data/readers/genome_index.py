"""Where the sequences of a large FASTA file begin, found by pyfaidx: it runs in a bounded child process, without torchflow."""

from __future__ import annotations

import os
from collections.abc import Iterator


def entries(path: str, index: str) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield ``(name, bases, offset, bases of a line, bytes of a line)`` of every sequence.

    Args:
        path: The FASTA file, plain.
        index: An index in the format of samtools, which is made where there is none.

    Raises:
        ValueError: The file cannot be indexed; the message says why.
    """
    import pyfaidx  # noqa: PLC0415

    try:
        faidx = pyfaidx.Faidx(path, indexname=index, rebuild=False)
    except MemoryError:
        os.write(2, b"MemoryError\n")
        os._exit(1)  # without memory nothing can be tidied up: attempts at it were seen to hang
    except (pyfaidx.FastaIndexingError, pyfaidx.IndexNotFoundError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    for name, record in faidx.index.items():
        yield name, record.rlen, record.offset, record.lenc, record.lenb
