"""How records of FASTA and FASTQ files become bytes of codes and qualities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchflow.data.nucleotides import INVALID, LETTER_CODES, SOFT_MASKED_CODES, wrong_letter
from torchflow.data.readers.fastx import Fastx, Limits, records
from torchflow.errors import FileError


@dataclass(frozen=True)
class Packing:
    """How files become a pack: all that its content depends on beside the files.

    Args:
        kind: "FASTA" or "FASTQ".
        soft_masked: Whether lower case letters become N.
        qualities: Whether qualities are kept.
        phred: The character of quality 0: 33, or 64 in old files.
        limits: What a file may hold.
    """

    kind: str
    soft_masked: bool
    qualities: bool
    phred: int
    limits: Limits


def fill(columns: Mapping[str, Any], path: str, packing: Packing) -> int:
    """Write the records of a file to the ends of columns; return how many there are."""
    table = (SOFT_MASKED_CODES if packing.soft_masked else LETTER_CODES).tobytes()
    number = 0
    for number, record in enumerate(records(path, packing.kind, packing.limits), start=1):
        codes = record.letters.encode("ascii", "replace").translate(table)
        if (place := codes.find(INVALID)) >= 0:
            raise FileError(f"{_place(path, number, record)}, base {place + 1}: {wrong_letter(record.letters[place])}", path)
        header = record.header.encode("utf-8", "replace")
        columns["codes"].write(codes)
        columns["lengths"].write(len(codes).to_bytes(8, "little"))
        columns["headers"].write(header)
        columns["header_lengths"].write(len(header).to_bytes(8, "little"))
        if packing.qualities:
            columns["qualities"].write(_scores(path, number, record, packing.phred))
    if not number:
        raise FileError(f"{path} holds no record. Leave it out.", path)
    return number


def _scores(path: str, number: int, record: Fastx, phred: int) -> bytes:
    """Return the qualities of a record as bytes from 0 on."""
    written = np.frombuffer((record.qualities or "").encode("ascii", "replace"), dtype=np.uint8)
    wrong = np.flatnonzero((written < phred) | (written > 126))
    if wrong.size:
        place = int(wrong[0])
        remedy = "Use phred=33." if phred == 64 else "Qualities are the characters from '!' to '~'."
        found = (record.qualities or "")[place]
        raise FileError(f"{_place(path, number, record)}: {found!r} is no quality, at base {place + 1}. {remedy}", path)
    return (written - np.uint8(phred)).tobytes()


def _place(path: str, number: int, record: Fastx) -> str:
    return f"{path}, record {number} ({record.header[:40]!r})"
