"""Texts: files, their lines, or a column of a table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.files import Files, FileSource, checked_files, examined, is_table, label_field, list_files
from torchflow.data.readers.inflated import content_of
from torchflow.data.readers.text_tables import labels_of_rows, texts_of_table
from torchflow.data.readers.texts import Texts, lines_of, packed_texts, spread, texts_in
from torchflow.data.schema import Field, Schema
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError

SUFFIXES = (".txt", ".text", ".md", ".rst", ".txt.gz")
MAX_BYTES = 2**27
"""The largest file, inflated; ``max_bytes=`` raises it."""


def from_text(
    path: Any,  # whatever list_files takes
    *,
    lines: bool = False,
    column: str | None = None,
    labels: str | Sequence[Any] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    encoding: str = "utf-8",
    delimiter: str = ",",
    bad: str = "raise",
    max_bytes: int | None = None,
) -> Dataset[Any]:
    r"""Return the dataset of texts: one a file, one a line, or one a row of a table.

    Text stays text until a fitted :class:`Vocabulary` is mapped over it. It is decoded strictly: what is not in the encoding is
    an error that names the byte, and a byte order mark is left out. Line ends become ``\n``, as in Python's text files. Files
    that are compressed by gzip are inflated.

    Args:
        path: A file, a folder, or a list of files; with ``column``, one table: a text file with a header line, a frame, or a
            dict of columns.
        lines: Whether every line is a sample, empty ones too, without its end; the files are then read once, now, and held in
            memory. Otherwise a file is a sample, and is read whenever it is needed.
        column: The table's column of texts.
        labels: ``"folder"`` for the names of the folders right below ``path``; a list as long as the files, for all lines of
            each; with ``column``, the table's column of labels. Texts become class indices, numbers stay numbers.
        classes: The names of the classes in their order; None is those that labels name, sorted.
        encoding: How bytes are characters.
        delimiter: What stands between the cells of a table in a text file, one character.
        bad: What becomes of a file that cannot be read: ``"raise"``, or ``"skip"`` with one warning.
        max_bytes: The largest file once inflated; 128 MiB by default.

    Returns:
        Samples of text, or ``(text, label)``.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value, or an encoding that Python does not know.
        FileError: A file is not there, is no text in the encoding, or is too large; the message names the byte.
        DataError: A label cannot be told.
    """
    kind = _encoding(encoding)
    most = MAX_BYTES if max_bytes is None else arguments.whole("max_bytes", max_bytes)
    arguments.one_of("bad", bad, ("raise", "skip"))
    if column is not None:
        if arguments.flag("lines", lines):
            raise ArgumentTypeError("lines= and column= both say what a sample is. Give one.")
        decode = partial(decoded, encoding=kind, most=most, newlines=False)
        files, texts, found = texts_of_table(path, column, labels, decode, delimiter)
        return Dataset(Texts(texts_in(texts), labels_of_rows(files.paths[0], found, classes, len(texts)), files, "from_text"))
    if is_table(path):
        raise ArgumentTypeError("path is a table. Name the column of its texts: column=.")
    files = list_files(path, factory="from_text", suffixes=SUFFIXES, labels=labels, classes=classes)
    if not arguments.flag("lines", lines):
        good = checked_files(files, bad) if bad == "raise" else examined(files, partial(decoded, encoding=kind, most=most), bad)[0]
        return Dataset(TextFiles(good, kind, most))
    good, packs = examined(files, partial(lines_of, decode=partial(decoded, encoding=kind, most=most)), bad)
    counts = [len(pack.starts) for pack in packs]
    return Dataset(Texts(packed_texts(packs), spread(good, counts), good, "from_text", counts=counts))


class TextFiles(FileSource):
    """A text a file.

    Args:
        files: The files.
        encoding: How bytes are characters.
        most: The most bytes of one.
    """

    def __init__(self, files: Files, encoding: str, most: int) -> None:
        super().__init__(files, "from_text", Schema((Field("text"), *label_field(files))))
        self._encoding, self._most = encoding, most

    def read(self, path: str, part: int) -> str:
        """Return what a file says."""
        return decoded(path, encoding=self._encoding, most=self._most)


def decoded(path: str, *, encoding: str, most: int, newlines: bool = True) -> str:
    """Return the text of a file.

    Args:
        path: The file.
        encoding: How bytes are characters.
        most: The most bytes, inflated.
        newlines: Whether all line ends become a newline.

    Raises:
        FileError: It is no such text, or has more.
    """
    content = content_of(path, most, "max_bytes")
    try:
        text = content.decode(encoding, "strict")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        remedy = (
            "It is UTF-16: encoding='utf-16'." if utf16 else "Save it as UTF-8, or name its encoding, such as encoding='cp1252'."
        )
        place = f"{error.reason} at byte {error.start} (line {line})"
        raise FileError(f"{path} is no text in {encoding.upper()}: {place}. {remedy}", path) from error
    except UnicodeError as error:
        raise FileError(f"{path} is no text in {encoding.upper()}: {error}. Name its encoding: encoding=.", path) from error
    if (place_of_nul := text.find("\0")) >= 0:
        remedy = "It is no text, damaged, or in another encoding, such as encoding='utf-16'."
        raise FileError(f"{path} holds a NUL at character {place_of_nul}. {remedy}", path)
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n") if newlines and "\r" in text else text


def _encoding(encoding: object) -> str:
    """Return an encoding of text that Python knows."""
    if not isinstance(encoding, str):
        raise ArgumentTypeError(f"encoding must be the name of one, such as 'utf-8', got {arguments.shown(encoding)}.")
    try:
        b" ".decode(encoding)  # which half a character of UTF-16 may not be, and a name that is none never is
    except UnicodeError:
        return encoding
    except (LookupError, ValueError):
        known = "such as 'utf-8', 'utf-16', 'latin-1' or 'cp1252'"
        raise ArgumentValueError(f"encoding must be one that Python knows, {known}, got {arguments.shown(encoding)}.") from None
    return encoding
