"""FASTA and FASTQ files as records, plain or gzip by content: bounded first, then parsed by needletail.

needletail holds a whole record in memory and inflates whatever it is given, so a file is read through once before, in
pieces, to know that no record and no inflated size goes beyond its limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from torchflow import arguments
from torchflow.data.readers.inflated import opened, reading
from torchflow.errors import FileError, MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 2**30
"""The largest file, inflated; ``max_bytes=`` raises it."""
MAX_RECORDS = 10_000_000
"""The most records of one file; ``max_records=`` raises it."""
MAX_LENGTH = 100_000_000
"""The most bases of one record; ``max_length=`` raises it."""
_PIECE = 2**20
_HEADER = 2**16
_MARKS = {"FASTA": b">", "FASTQ": b"@"}
_FOREIGN = {  # the first bytes of what people pass by mistake
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PK\x03\x04": "a zip archive",
    b"BAM\x01": "a BAM file",
    b"CRAM": "a CRAM file",
    b"\x1a\x45\xdf\xa3": "a video",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"\xef\xbb\xbf": "text with a byte order mark",
    b"LOCUS": "a GenBank file",
    b"##gff": "a GFF file",
    b"@HD\t": "a SAM file",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may hold.

    Args:
        bytes: The largest file, inflated.
        records: The most records.
        length: The most bases of one record.
    """

    bytes: int = MAX_BYTES
    records: int = MAX_RECORDS
    length: int = MAX_LENGTH

    @classmethod
    def checked(cls, max_bytes: object, max_records: object, max_length: object) -> Limits:
        """Return the limits that a user gave, None for the default ones."""
        given = {"max_bytes": max_bytes, "max_records": max_records, "max_length": max_length}
        default = (MAX_BYTES, MAX_RECORDS, MAX_LENGTH)
        return cls(*(usual if given[n] is None else arguments.whole(n, given[n]) for n, usual in zip(given, default, strict=True)))


class Fastx(NamedTuple):
    """One record: its header line without the mark, its letters, and its qualities as they are written."""

    header: str
    letters: str
    qualities: str | None


def records(path: str, kind: str, limits: Limits) -> Iterator[Fastx]:
    """Yield the records of a file.

    Args:
        path: The file.
        kind: "FASTA" or "FASTQ".
        limits: What it may hold.

    Raises:
        FileError: It is not there, is no such file, is damaged, or goes beyond a limit; the message names file and record.
        MissingExtraError: needletail is not installed.
    """
    try:
        import needletail  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "reading FASTA and FASTQ needs needletail, which is not installed. Use: pip install 'torchflow-train[dna]'"
        ) from error
    scan(path, kind, limits)
    number = 0
    try:
        for record in needletail.parse_fastx_file(path):
            number += 1
            made = Fastx(record.id, record.seq, record.qual)
            _check(path, number, made, limits)
            yield made
    except needletail.NeedletailError as error:
        raise FileError(f"{path}, after record {number}: {_said(error)} {_remedy(kind)}", path) from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.", path) from error


def scan(path: str, kind: str, limits: Limits, *, by_line: bool = False) -> None:
    """Read a file through in pieces: it is of its kind, is not cut as gzip, and keeps within the limits.

    Args:
        path: The file.
        kind: "FASTA" or "FASTQ".
        limits: What it may hold.
        by_line: Whether the length of a line is bounded, and not that of a FASTA record.

    Raises:
        FileError: It is not, is, or does not.
    """
    by_record = kind == "FASTA" and not by_line
    separator = b"\n>" if by_record else b"\n"
    room = limits.length + limits.length // 4 * by_record + _HEADER  # line breaks take some of it
    most = limits.bytes if by_line else limits.records * (1 if by_record else 4) + 1
    what = "a line of more than" if by_line else "a record of more than"
    meter = _Meter(separator)
    with reading(path), opened(path) as file:
        piece = file.read(_PIECE)
        _check_mark(path, kind, piece)
        while piece:
            meter.add(piece)
            if meter.bytes > limits.bytes:
                raise FileError(_above(path, f"has more than {limits.bytes} bytes once inflated", "max_bytes"), path)
            if meter.longest > room:
                raise FileError(_above(path, f"has {what} {limits.length} bases", "max_length"), path)
            if meter.count > most:
                raise FileError(_above(path, f"has more than {limits.records} records", "max_records"), path)
            if by_line:
                _check_lines(path, meter)
            piece = file.read(_PIECE)


def _check_lines(path: str, meter: _Meter) -> None:
    """Refuse lines that no index can count on; the library that indexes remembers each of them, and takes memory and time."""
    ragged = meter.changes > 6 * meter.headers + 1000
    short = meter.bytes > 2**24 and meter.bytes < 8 * meter.count
    if ragged or short:
        found = "of unequal lengths" if ragged else "of a few bytes"
        remedy = "Write it again with lines of one length, or read its records whole with from_fasta."
        raise FileError(f"{path} has lines {found}, in which no window can be found. {remedy}", path)


class _Meter:
    """How long the longest run between two separators is, over pieces of a file.

    Args:
        separator: One or two bytes.

    Attributes:
        bytes: How many there were.
        count: How many separators.
        longest: The most bytes from after a separator to the end of the next.
        changes: How often a run is not as long as the one before it, within a piece.
        headers: How many runs begin with ``>``.
    """

    def __init__(self, separator: bytes) -> None:
        self.bytes = self.count = self.longest = self.changes = self.headers = 0
        self._separator = separator
        self._run = 0
        self._last = b""

    def add(self, piece: bytes) -> None:
        """Take in the next piece."""
        block = self._last + piece
        ends = self._ends(block)
        self.count += len(ends)
        self.bytes += len(piece)
        if len(ends):
            runs = np.diff(ends)
            self.changes += int(np.count_nonzero(np.diff(runs)))
            self.headers += int(np.count_nonzero(np.frombuffer(piece, dtype=np.uint8)[ends[ends < len(piece)]] == ord(">")))
            self.longest = max(self.longest, self._run + int(ends[0]), int(runs.max()) if len(runs) else 0)
            self._run = len(piece) - int(ends[-1])
        else:
            self._run += len(piece)
        self.longest = max(self.longest, self._run)
        self._last = piece[-1:]

    def _ends(self, block: bytes) -> NDArray[np.int64]:
        """Return where separators end, in bytes from the beginning of the piece."""
        values = np.frombuffer(block, dtype=np.uint8)
        before = len(self._last)
        if len(self._separator) == 1:
            return np.flatnonzero(values[before:] == self._separator[0]) + 1
        found = np.flatnonzero((values[:-1] == self._separator[0]) & (values[1:] == self._separator[1]))
        return found + (2 - before)


def _check_mark(path: str, kind: str, piece: bytes) -> None:
    """Check the first byte of a file, and say what it is instead."""
    mark = _MARKS[kind]
    what = next((name for start, name in _FOREIGN.items() if piece.startswith(start)), None)
    if piece.startswith(mark) and what is None:
        return
    if not piece.strip():
        raise FileError(f"{path} is empty: it holds no record. Leave it out, or write it again.", path)
    other = next((name for name, start in _MARKS.items() if piece.startswith(start)), None)
    if what is None and other is not None:
        raise FileError(f"{path} is {other}, not {kind}. Read it with torchflow.data.from_{other.lower()}.", path)
    if what is None and piece[:1] in (b";", b"#") and kind == "FASTA":
        remedy = "Take the comment lines out of the file."
        raise FileError(f"{path} begins with a comment, and FASTA begins with '>'. {remedy}", path)
    found = f"is {what}" if what else f"begins with {piece[:12]!r}"
    remedy = (
        "Decompress it, or compress it with gzip." if what and what.startswith("comp") else f"Pass a {kind} file, plain or gzip."
    )
    raise FileError(f"{path} {found}, and a {kind} file begins with {mark.decode()!r}. {remedy}", path)


def _check(path: str, number: int, record: Fastx, limits: Limits) -> None:
    if not record.letters:
        said = f"{path}, record {number} ({record.header[:40]!r}) has no bases"
        raise FileError(f"{said}. Take it out of the file.", path)
    if len(record.letters) > limits.length:
        raise FileError(_above(path, f"has a record of more than {limits.length} bases", "max_length"), path)
    if len(record.header) > _HEADER:
        said = f"{path}, record {number} has a header of {len(record.header)} characters"
        raise FileError(f"{said}. Shorten it to {_HEADER}.", path)


def _above(path: str, what: str, keyword: str) -> str:
    return f"{path} {what}. If that is meant, raise {keyword}=."


def _said(error: Exception) -> str:
    text = str(error).strip().replace("\n", " ").rstrip(".")
    return text[:200] + "."


def _remedy(kind: str) -> str:
    return f"The file is cut or no {kind}: copy it again, or check it where it was made."
