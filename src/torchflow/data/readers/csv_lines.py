"""The lines of a CSV file, bounded and checked before they become cells."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from torchflow import arguments
from torchflow.errors import ArgumentValueError, FileError, TableError

MAX_BYTES = 2**30
MAX_COLUMNS = 10_000
LONGEST_LINE = 2**20
"""Characters; a line of a table that is longer is no line of a table."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A CSV file whose header has been read.

    Attributes:
        file: The file.
        delimiter: What stands between cells.
        names: The header, without spaces around the names.
        max_bytes: The largest size that is read.
    """

    file: Path
    delimiter: str
    names: tuple[str, ...]
    max_bytes: int

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield ``(line number, cells)`` of every line after the header that is not blank, all as wide as the header.

        Raises:
            FileError: The file cannot be read, or is no text.
            TableError: A line has another number of cells.
        """
        lines = _rows(self.file, self.delimiter, self.max_bytes)
        next(lines, None)
        width = len(self.names)
        for line, row in lines:
            if len(row) != width:
                said = f"{self.file}, line {line} has {len(row)} cells, and the header has {width}"
                raise TableError(f"{said}. Check the delimiter and the quotes of that line.")
            yield line, row

    @property
    def delimiter_hint(self) -> str:
        """What to add to a message where the header looks as if it were written with another delimiter."""
        first = self.names[0]
        other = next((mark for mark in ";\t|," if mark != self.delimiter and mark in first), None)
        return f" The header holds {other!r}: pass delimiter={other!r}." if len(self.names) == 1 and other else ""


def open_text_table(file: Path, delimiter: str, max_bytes: int, max_columns: int) -> TextTable:
    """Return the table of a file, after its header was read.

    Raises:
        ArgumentTypeError: A limit is no int.
        ArgumentValueError: The delimiter is not one character.
        FileError: The file is not there, too large, empty, or no text.
        TableError: It has too many columns.
    """
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise ArgumentValueError(f"delimiter must be one character, for example ',' or ';', got {arguments.shown(delimiter)}.")
    limit = arguments.whole("max_bytes", max_bytes)
    most = arguments.whole("max_columns", max_columns)
    _, header = next(_rows(file, delimiter, limit), (0, []))
    names = tuple(name.strip() for name in header)
    if not any(names):
        raise FileError(f"{file} is empty. It needs a header line with the names of its columns.", file)
    if len(names) > most:
        raise TableError(f"{file} has {len(names):,} columns, and at most {most:,} are read. Pass max_columns= if that is right.")
    return TextTable(file, delimiter, names, limit)


def open_text_tables(files: Sequence[str], delimiter: str, max_bytes: int, max_columns: int) -> list[TextTable]:
    """Return the tables of several files, after their headers were read; the limit is that of all files together.

    Raises:
        ArgumentTypeError: A limit is no int.
        ArgumentValueError: The delimiter is not one character.
        FileError: A file is not there, empty, or no text, or they are too large.
        TableError: One has too many columns.
    """
    tables = [open_text_table(Path(file), delimiter, max_bytes, max_columns) for file in files]
    total = sum(table.file.stat().st_size for table in tables)
    if total > max_bytes:
        said = f"{files[0]} and {len(files) - 1} more have {total:,} bytes, and at most {max_bytes:,} are read"
        raise FileError(f"{said}. Pass max_bytes= if the table is meant to be that large.", files[0])
    return tables


def check_size(file: Path, max_bytes: int) -> None:
    """Check that a file is there, is a regular one, and is not larger than a limit.

    Raises:
        FileError: It is not; the message says what there is.
    """
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        near = ", ".join(sorted(other.name for other in file.parent.glob(f"*{file.suffix}"))[:5]) if file.parent.is_dir() else ""
        there = f" In {file.parent} there is: {near}." if near else f" Check the path; the current folder is {Path.cwd()}."
        raise FileError(f"there is no file {file}.{there}", file) from None
    except OSError as error:
        raise FileError(f"{file} cannot be read: {error.strerror or error}.", file) from error
    if stat.S_ISDIR(found.st_mode):
        raise FileError(f"{file} is a folder. Pass the path of one file in it.", file)
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"{file} is no regular file. Copy its content to a file first.", file)
    if found.st_size > max_bytes:
        said = f"{file} has {found.st_size:,} bytes, and at most {max_bytes:,} are read"
        raise FileError(f"{said}. Pass max_bytes= if the table is meant to be that large.", file)


def _rows(file: Path, delimiter: str, max_bytes: int) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(line number, cells)`` of every line that is not blank."""
    check_size(file, max_bytes)
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(_lines(file, text), delimiter=delimiter, strict=True)
            for row in reader:
                if any(row):
                    yield reader.line_num, row
    except UnicodeDecodeError as error:
        with open(file, "rb") as start:
            mark = start.read(2)
        remedy = " It begins as UTF-16 does." if mark in (b"\xff\xfe", b"\xfe\xff") else ""
        said = f"{file} is not text in UTF-8: {error.reason} at byte {error.start}"
        raise FileError(f"{said}.{remedy} Save it as UTF-8.", file) from error
    except csv.Error as error:
        raise FileError(f"{file}, line {reader.line_num}: {error}. Check the quotes there, or save the file anew.", file) from error
    except OSError as error:
        raise FileError(f"{os.fspath(file)} cannot be read: {error.strerror or error}.", file) from error


def _lines(file: Path, text: IO[str]) -> Iterator[str]:
    """Yield lines, refusing NUL bytes, which some programs write after a crash, and lines without an end."""
    number = 0
    while line := text.readline(LONGEST_LINE + 1):
        number += 1
        if "\0" in line:
            raise FileError(f"{file}, line {number} holds NUL bytes: the file is damaged or no text. Export it anew.", file)
        if len(line) > LONGEST_LINE:
            said = f"{file}, line {number} has more than {LONGEST_LINE:,} characters"
            raise FileError(f"{said}: it is no table with a row a line. Check the line ends.", file)
        yield line
