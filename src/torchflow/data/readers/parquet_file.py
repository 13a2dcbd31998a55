"""A parquet file: its metadata, checked, and its rows, a few thousand at a time."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchflow.data.readers.arrow import check_type, is_text, pyarrow
from torchflow.errors import FileError, TableError

ROWS_AT_ONCE = 2**16


@dataclass(frozen=True, slots=True)
class Parquet:
    """A parquet file whose metadata was read, and the columns that are wanted.

    Attributes:
        path: The file.
        length: The rows it says that it has.
        schema: Arrow's, of all columns.
        names: The wanted columns.
    """

    path: Path
    length: int
    schema: Any
    names: tuple[str, ...]

    def only(self, names: Sequence[str]) -> Parquet:
        """Return the same file with other columns wanted.

        Raises:
            TableError: A column is of a type that is no cell.
        """
        for name in names:
            check_type(self.schema.field(name).type, name, str(self.path))
        return Parquet(self.path, self.length, self.schema, tuple(names))

    def pieces(self) -> Iterator[Any]:
        """Yield record batches of a few thousand rows, texts dictionary-encoded.

        Raises:
            FileError: The file is damaged.
        """
        arrow, reading = pyarrow("from_parquet"), importlib.import_module("pyarrow.parquet")
        texts = [name for name in self.names if is_text(self.schema.field(name).type)]
        seen = 0
        try:
            # read_dictionary: a small file may hold a long text twenty million times
            with reading.ParquetFile(self.path, read_dictionary=texts, pre_buffer=False) as file:
                for piece in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(self.names), use_threads=False):
                    seen += len(piece)
                    piece.validate(full=True)  # a damaged file may point beyond its own texts
                    yield piece.select(list(self.names))
        except (arrow.ArrowException, OSError, MemoryError, ValueError) as error:
            raise _damaged(self.path, error) from error
        if seen != self.length:
            raise FileError(f"{self.path} says that it has {self.length:,} rows and holds {seen:,}: it is damaged.", self.path)


def open_parquet(file: Path, max_columns: int) -> Parquet:
    """Return a parquet file after its metadata was read.

    Raises:
        FileError: It is no parquet file, or damaged.
        TableError: It has too many columns.
    """
    arrow, reading = pyarrow("from_parquet"), importlib.import_module("pyarrow.parquet")
    try:
        with reading.ParquetFile(file) as opened:
            schema, length = opened.schema_arrow, opened.metadata.num_rows
    except (arrow.ArrowException, OSError, MemoryError, ValueError) as error:
        raise _damaged(file, error) from error
    if len(schema.names) > max_columns:
        said = f"{file} has {len(schema.names):,} columns, and at most {max_columns:,} are read"
        raise TableError(f"{said}. Pass max_columns= if that is right.")
    if length < 0:
        raise FileError(f"{file} says that it has {length} rows: it is damaged.", file)
    return Parquet(file, length, schema, tuple(schema.names))


def _damaged(file: Path, error: BaseException) -> FileError:
    with open(file, "rb") as start:
        is_parquet = start.read(4) in (b"PAR1", b"PARE")
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if is_parquet:
        return FileError(f"{file} cannot be read as parquet: {said}. It is damaged or cut off; write it anew.", file)
    return FileError(f"{file} is no parquet file: {said}. A CSV file is read by from_csv, a workbook by from_excel.", file)
