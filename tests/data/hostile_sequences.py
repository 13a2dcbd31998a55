"""Hostile files of DNA and text: each is made by a function in a folder of its own, and said to be read by one reader."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path

READS = b"".join(b"@r%d\nACGTACGT\n+\nIIIIIIII\n" % number for number in range(50))
GENES = b"".join(b">g%d\nACGTACGTAC\nGTAC\n" % number for number in range(50))
PROSE = "".join(f"line {number} - naïve\n" for number in range(50)).encode()
FULL = int(os.environ.get("TORCHFLOW_FUZZ", "60")) >= 500
LARGE = 2**30 if FULL else 2**28
"""The bytes of a bomb and of a long line: a gigabyte where the campaign is run in full."""


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _sparse(name: str, head: bytes, size: int) -> Callable[[Path], Path]:
    """A file that takes no room on the disk, and gives NULs behind its head."""

    def make(folder: Path) -> Path:
        with open(folder / name, "wb") as file:
            file.write(head)
            file.truncate(size)
        return folder / name

    return make


def _bomb(name: str, head: bytes, unit: bytes, size: int) -> Callable[[Path], Path]:
    """A small gzip file of much."""

    def make(folder: Path) -> Path:
        packer = zlib.compressobj(1, wbits=31)
        piece = unit * (2**20 // len(unit))
        with open(folder / name, "wb") as file:
            file.write(packer.compress(head))
            for _ in range(size // len(piece)):
                file.write(packer.compress(piece))
            file.write(packer.flush())
        return folder / name

    return make


def _one_line(name: str, head: bytes, letter: bytes) -> Callable[[Path], Path]:
    """A line of 1 GB, on the disk."""

    def make(folder: Path) -> Path:
        piece = letter * 2**20
        with open(folder / name, "wb") as file:
            file.write(head)
            for _ in range(LARGE // len(piece)):
                file.write(piece)
        return folder / name

    return make


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.fa")
    return folder / "pipe.fa"


def _loop(folder: Path) -> Path:
    (folder / "loop.fa").symlink_to(folder / "loop.fa")
    return folder / "loop.fa"


def _folder(folder: Path) -> Path:
    return folder


# By what is wrong: how the file is made, and a pattern of what is said of it. Genomes are read with length=4, the rest by its suffix.
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (_file("a.fa", b""), "it is empty"),
    "blank lines": (_file("a.fa", b"\n \r\n"), "is empty: it holds no record"),
    "one mark": (_file("a.fa", b">"), r"Failed to read the first two bytes"),
    "a header alone": (_file("a.fa", b">a"), "Unexpected end of input"),
    "a header without bases": (_file("a.fa", b">a\n>b\nAC\n"), r"record 1 \('a'\) has no bases"),
    "prose as FASTA": (_file("a.fa", PROSE), r"begins with b'line 0 .*', and a FASTA file begins with '>'"),
    "comments before FASTA": (_file("a.fa", b"# by hand\n" + GENES), "begins with a comment"),
    "FASTQ as FASTA": (_file("a.fa", READS), "is FASTQ, not FASTA. Read it with torchflow.data.from_fastq"),
    "FASTA as FASTQ": (_file("a.fq", GENES), "is FASTA, not FASTQ. Read it with torchflow.data.from_fasta"),
    "proteins": (_file("a.fa", b">p\nMKVL\n"), r"record 1 \('p'\), base 4: 'L' is no nucleotide. These may be proteins"),
    "an alignment": (_file("a.fa", b">p\nAC--GT\n"), "base 3: '-' is a gap of an alignment"),
    "a stop": (_file("a.fa", b">p\nACGT*\n"), r"base 5: '\*' is no nucleotide"),
    "NULs among bases": (_file("a.fa", b">a\nAC\0\0GT\n"), r"base 3: '\\x00' is no nucleotide"),
    "NULs alone": (_file("a.fa", bytes(4096)), r"begins with b'\\x00"),
    "letters of UTF-8": (_file("a.fa", ">a\nACGÅ\n".encode()), "base 4: 'Å' is no nucleotide"),
    "old Mac line ends": (_file("a.fa", b">a\rACGT\r>b\rAC\r"), "Unexpected end of input|no bases"),
    "UTF-16 as FASTA": (_file("a.fa", ">a\nACGT\n".encode("utf-16")), "is text in UTF-16"),
    "a byte order mark": (_file("a.fa", b"\xef\xbb\xbf>a\nACGT\n"), "is text with a byte order mark"),
    "a mixture": (_file("a.fa", GENES + READS), r"record 50 \('g49'\), base 15: '@' is no nucleotide"),
    "bzip2": (_file("a.fa.gz", bz2.compress(GENES)), "is compressed by bzip2.*Decompress it, or compress it with gzip"),
    "xz": (_file("a.fa.gz", lzma.compress(GENES)), "is compressed by xz"),
    "gzip in gzip": (_file("a.fa.gz", gzip.compress(gzip.compress(GENES))), r"begins with b'\\x1f\\x8b"),
    "half a gzip": (_file("a.fa.gz", gzip.compress(GENES)[:-30]), "is cut: its gzip stream has no end"),
    "gzip with a tail": (_file("a.fa.gz", gzip.compress(GENES) + b"tail"), "is damaged as gzip: Not a gzipped file"),
    "gzip with a wrong sum": (_file("a.fa.gz", gzip.compress(GENES)[:-8] + bytes(8)), "is damaged as gzip: CRC check failed"),
    "a gzip's first bytes": (_file("a.fa.gz", b"\x1f\x8b"), "is cut"),
    "gzip of another method": (_file("a.fa.gz", b"\x1f\x8b\x09" + bytes(20)), "is damaged as gzip: Unknown compression method"),
    "a picture": (_file("a.fa", b"\x89PNG\r\n\x1a\n" + bytes(50)), "is a picture"),
    "a workbook": (_file("a.fa", b"PK\x03\x04" + bytes(50)), "is a zip archive"),
    "a BAM file": (_file("a.fa.gz", gzip.compress(b"BAM\x01" + bytes(50))), "is a BAM file"),
    "a GenBank file": (_file("a.fa", b"LOCUS       SCU49845\n"), "is a GenBank file"),
    "a SAM file": (_file("a.fq", b"@HD\tVN:1.6\n@SQ\tSN:r\n"), "is a SAM file"),
    "a cut FASTQ": (_file("a.fq", READS[:-11]), "after record 49: Sequence length is 8 but quality length|after record 49"),
    "a FASTQ cut in its bases": (_file("a.fq", READS[:-18]), "after record 49: Unexpected end of input"),
    "short qualities": (_file("a.fq", b"@a\nACGT\n+\nIII\n"), "Sequence length is 4 but quality length is 3"),
    "long qualities": (_file("a.fq", b"@a\nACGT\n+\nIIIIII\n@b\nA\n+\nI\n"), "Sequence length is 4 but quality length is 6"),
    "no separator": (_file("a.fq", b"@a\nACGT\nIIII\n@b\nAC\n+\nII\n"), r"Expected '\+' separator"),
    "several lines of bases": (_file("a.fq", b"@a\nAC\nGT\n+\nII\nII\n"), r"Expected '\+' separator"),
    "a space as quality": (_file("a.fq", b"@a\nACGT\n+\nII I\n"), r"record 1 \('a'\): ' ' is no quality, at base 3"),
    "letters as quality": (_file("a.fq", "@a\nACG\n+\nIéI\n".encode("latin-1")), "'\\ufffd' is no quality, at base 2"),
    "a read without bases": (_file("a.fq", b"@a\n\n+\n\n@b\nA\n+\nI\n"), r"record 1 \('a'\) has no bases"),
    "a bomb of bases": (
        _bomb("a.fa.gz", b">a\n", b"A" * 64, LARGE),
        "has a record of more than 100000000 bases.*raise max_length=",
    ),
    "a bomb of lines": (_bomb("a.fa.gz", b">a\n", b"ACGT\n", LARGE), "has a record of more than 100000000 bases"),
    "a bomb of records": (
        _bomb("a.fa.gz", b"", b">a\nA\n", LARGE),
        "has more than 10000000 records. If that is meant, raise max_records=",
    ),
    "a bomb of reads": (_bomb("a.fq.gz", b"", b"@\nA\n+\nI\n", LARGE), "has more than 10000000 records"),
    "one header without end": (_bomb("a.fa.gz", b">", b"a" * 64, LARGE), "has a record of more than 100000000 bases"),
    "one line of 1 GB": (_one_line("a.fa", b">a\n", b"A"), "has a record of more than 100000000 bases"),
    "a hole of 8 GB": (_sparse("a.fa", b">a\nACGT", 2**33), "has a record of more than 100000000 bases"),
    "a genome with ragged lines": (_file("a.genome", b">a\nACGT\nAC\nACGT\n"), "(?i:line length of fasta file is not consistent)"),
    "a genome in gzip": (_file("a.genome", gzip.compress(GENES)), "is compressed by gzip, where no window can be found"),
    "a genome of empty lines": (_file("a.genome", b">a\n" + b"\n" * 1_000_000), "(?i:line length)|no bases"),
    "a genome with a name twice": (_file("a.genome", b">a\nACGT\n>a\nACGT\n"), "Duplicate key"),
    "a genome without names": (_file("a.genome", b">\nACGT\n"), "Bad sequence name"),
    "a genome of one base": (_file("a.genome", b">a\nA\n"), "has 4 bases; the longest has 1"),
    "a genome with a wrong letter": (_file("a.genome", b">c\nACGTAC!TAC\n"), "c, base 7: '!' is no nucleotide"),
    "a pipe": (_pipe, "it is no regular file but a pipe"),
    "a link to itself": (_loop, "it cannot be looked at: Too many levels of symbolic links"),
    "a folder without sequences": (_folder, "has nothing to read: from_fasta reads .fa"),
    "text in Latin-1": (
        _file("a.txt", "naïve\n".encode("latin-1")),
        r"is no text in UTF-8: invalid continuation byte at byte 2 \(line 1\)",
    ),
    "text in UTF-16": (_file("a.txt", "text\n".encode("utf-16")), "It is UTF-16: encoding='utf-16'"),
    "lone surrogates": (_file("a.txt", b"ab\xed\xa0\x80cd"), "invalid continuation byte at byte 2"),
    "overlong UTF-8": (_file("a.txt", b"a\xc0\xaf"), "invalid start byte at byte 1"),
    "beyond Unicode": (_file("a.txt", b"\xf4\x90\x80\x80"), "invalid continuation byte at byte 0"),
    "half a character": (_file("a.txt", "ß".encode()[:1]), "unexpected end of data at byte 0"),
    "text with NULs": (_file("a.txt", b"some\0text"), "holds a NUL at character 4"),
    "a program as text": (_file("a.txt", b"\x7fELF\x02\x01\x01" + bytes(range(256))), "is no text in UTF-8"),
    "text bombs": (_bomb("a.txt.gz", b"", b"a" * 64, LARGE), "has more than 134,217,728 bytes once inflated.*raise max_bytes="),
    "text in half a gzip": (_file("a.txt.gz", gzip.compress(PROSE * 50)[:-40]), "is cut"),
    "a line of text of 1 GB": (_one_line("a.txt", b"", b"a"), "has more than 134,217,728 bytes"),
    "lines of text of 1 GB": (_one_line("a.lines", b"", b"a\n"), "has more than 134,217,728 bytes"),
    "a hole of 8 GB as text": (_sparse("a.lines", b"text", 2**33), "has more than 134,217,728 bytes"),
    "an empty text": (_file("a.txt", b""), "it is empty"),
    "a table with open quotes": (_file("a.csv", b'text\n"open'), "line 2: unexpected end of data"),
    "a table with a short row": (_file("a.csv", b"a,text\n1\n"), "line 2 has 1 cells, and the header 2"),
    "a table without the column": (_file("a.csv", b"a,b\n1,2\n"), "has no columns 'text'"),
    "a table of one large cell": (_file("a.csv", b"text\n" + b"x" * 300_000), "field larger than field limit"),
}
if FULL:
    HOSTILE |= {
        "a bomb of long records": (
            _bomb("a.fa.gz", b"", b">a\n" + b"A" * 1000 + b"\n", LARGE + 2**27),
            "has more than 1073741824 bytes once inflated.*raise max_bytes=",
        ),
        "a genome of one line of 1 GB": (_one_line("a.genome", b">a\n", b"A" * 2), "has a line of more than"),
    }
