"""Parquet files as one table: their rows one below the other, in types that hold the cells of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torchflow.data.readers.arrow import columns_of, is_moment, is_text, pyarrow
from torchflow.data.readers.columns import Column, Gathering
from torchflow.data.readers.parquet_file import Parquet
from torchflow.data.readers.table_files import place_of
from torchflow.errors import FileError, TableError


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """The wanted columns of some parquet files.

    Attributes:
        files: The files, each with the same columns wanted.
        schema: Arrow's, of the wanted columns: a type of each that holds the cells of all files.
    """

    files: tuple[Parquet, ...]
    schema: Any

    @classmethod
    def of(cls, files: Sequence[Parquet]) -> ParquetTable:
        """Return the table of files whose columns are all there.

        Raises:
            TableError: A column has types in two files that are no numbers both, nor dates both, nor texts both.
        """
        arrow = pyarrow("from_parquet")
        first = files[0]
        known = arrow.schema([first.schema.field(name) for name in first.names])
        if len(files) > 1:
            known = arrow.schema([_plain(field) for field in known])
        for file in files[1:]:
            other = arrow.schema([_plain(file.schema.field(name)) for name in first.names])
            if not other.equals(known):
                known = arrow.schema([_common(before, here, file) for before, here in zip(known, other, strict=True)])
        return cls(tuple(files), known)

    @property
    def names(self) -> tuple[str, ...]:
        """The wanted columns."""
        return self.files[0].names

    @property
    def counts(self) -> list[int]:
        """The rows of each file."""
        return [file.length for file in self.files]

    @property
    def place(self) -> str:
        """What messages call the table."""
        return place_of([file.path for file in self.files])

    @property
    def moments(self) -> list[str]:
        """The columns of dates."""
        return [field.name for field in self.schema if is_moment(field.type)]

    def pieces(self) -> Iterator[tuple[str, Any]]:
        """Yield a file, and a record batch of a few thousand of its rows, texts dictionary-encoded.

        Raises:
            FileError: A file is damaged.
            TableError: A number is beyond what the types of all files hold.
        """
        for file in self.files:
            for piece in file.pieces():
                yield str(file.path), piece if len(self.files) == 1 else self._fitted(piece, str(file.path))

    def columns(self, limit: int) -> dict[str, Column]:
        """Return all of it as columns.

        Raises:
            FileError: It takes more than ``limit`` bytes; the message says what to do.
        """
        arrow, gathering = pyarrow("from_parquet"), Gathering()
        remedy = "Pass cache='folder' to read it from disk, name fewer columns (features=[...]), or pass max_bytes=."
        length = sum(self.counts)
        if length * len(self.names) > limit:  # a truth value is a byte
            said = (
                f"{self.place} has {length:,} rows of {len(self.names)} columns, and at most {limit:,} bytes are read into memory"
            )
            raise FileError(f"{said}. {remedy}", self.files[0].path)
        for path, piece in self.pieces():
            gathering.add(columns_of(arrow.Table.from_batches([piece]), path)[0])
            if gathering.bytes > limit:
                raise FileError(f"{self.place} takes more than {limit:,} bytes in memory. {remedy}", self.files[0].path)
        return gathering.columns()

    def _fitted(self, piece: Any, path: str) -> Any:
        """Return a record batch with the types of the table; texts stay as they are."""
        columns = [_cast(column, field, path) for column, field in zip(piece.columns, self.schema, strict=True)]
        return pyarrow("from_parquet").RecordBatch.from_arrays(columns, names=list(self.names))


def _plain(field: Any) -> Any:
    """Return a field without a dictionary, and of the one type of texts: what files are written with may differ in that."""
    kind = getattr(field.type, "value_type", field.type)
    return field.with_type(pyarrow("from_parquet").large_string() if is_text(kind) else kind)


def _common(before: Any, here: Any, file: Parquet) -> Any:
    """Return a field that holds the cells of two: the wider of two types of numbers, or of two of dates."""
    arrow = pyarrow("from_parquet")
    try:
        return arrow.unify_schemas([arrow.schema([before]), arrow.schema([here])], promote_options="permissive").field(0)
    except arrow.ArrowException as error:
        said = f"column {here.name!r} of {file.path} holds {here.type}, and {before.type} in the files before it"
        raise TableError(f"{said}. Write it with one type, or leave it out (features=[...]).") from error


def _cast(column: Any, field: Any, path: str) -> Any:
    arrow = pyarrow("from_parquet")
    if column.type == field.type or is_text(getattr(column.type, "value_type", column.type)):
        return column
    try:
        return (column.dictionary_decode() if hasattr(column, "dictionary") else column).cast(field.type)
    except arrow.ArrowException as error:
        said = f"column {field.name!r} of {path} does not fit {field.type}, which its other files need: {error}"
        raise TableError(f"{said}. Write it with one type, or leave it out (features=[...]).") from error
