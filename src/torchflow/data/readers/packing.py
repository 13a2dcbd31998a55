"""How records of FASTA and FASTQ files become bytes of codes and qualities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchflow.data.nucleotides import INVALID, LETTER_CODES, SOFT_MASKED_CODES, wrong_letter
from torchflow.data.readers.fastx import Fastx, Limits, records
from torchflow.errors import FileError

_LETTERS, _RECORDS = 2**20, 2**12


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
    count = 0
    waiting = records(path, packing.kind, packing.limits)
    while block := _block(waiting):
        headers = [record.header.encode("utf-8", "replace") for record in block]
        columns["codes"].write(_codes(path, count, block, packing.soft_masked))
        columns["lengths"].write(np.array([len(record.letters) for record in block], dtype="<i8").tobytes())
        columns["headers"].write(b"".join(headers))
        columns["header_lengths"].write(np.array([len(header) for header in headers], dtype="<i8").tobytes())
        if packing.qualities:
            columns["qualities"].write(_scores(path, count, block, packing.phred))
        count += len(block)
    if not count:
        raise FileError(f"{path} holds no record. Leave it out.", path)
    return count


def _block(waiting: Iterator[Fastx]) -> list[Fastx]:
    """Return the next records, enough to be worth one call and few enough to hold."""
    block, letters = [], 0
    for record in waiting:
        block.append(record)
        letters += len(record.letters)
        if letters >= _LETTERS or len(block) >= _RECORDS:
            break
    return block


def _codes(path: str, before: int, block: Sequence[Fastx], soft_masked: bool) -> bytes:
    """Return the letters of some records as positions in LETTERS."""
    table = (SOFT_MASKED_CODES if soft_masked else LETTER_CODES).tobytes()
    codes = "".join([record.letters for record in block]).encode("ascii", "replace").translate(table)
    if (found := codes.find(INVALID)) >= 0:
        number, place = _find(block, found)
        said = wrong_letter(block[number].letters[place])
        raise FileError(f"{_place(path, before + number, block[number])}, base {place + 1}: {said}", path)
    return codes


def _scores(path: str, before: int, block: Sequence[Fastx], phred: int) -> bytes:
    """Return the qualities of some records as bytes from 0 on."""
    letters = "".join([record.qualities or "" for record in block])
    if not letters.isascii():  # NUL is no quality
        letters = "".join(letter if letter.isascii() else "\0" for letter in letters)
    written = np.frombuffer(letters.encode("ascii"), dtype=np.uint8)
    wrong = np.flatnonzero((written < phred) | (written > 126))
    if wrong.size:
        number, place = _find(block, int(wrong[0]))
        found = (block[number].qualities or "")[place]
        remedy = "Use phred=33." if phred == 64 else "Qualities are the characters from '!' to '~'."
        raise FileError(
            f"{_place(path, before + number, block[number])}: {found!r} is no quality, at base {place + 1}. {remedy}", path
        )
    return (written - np.uint8(phred)).tobytes()


def _find(block: Sequence[Fastx], place: int) -> tuple[int, int]:
    """Return the record of a block that holds a place of its joined letters, and the place in it."""
    for number, record in enumerate(block):
        if place < len(record.letters):
            return number, place
        place -= len(record.letters)
    raise IndexError(place)


def _place(path: str, number: int, record: Fastx) -> str:
    return f"{path}, record {number + 1} ({record.header[:40]!r})"
