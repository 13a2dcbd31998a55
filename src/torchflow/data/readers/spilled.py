"""Parquet files decoded to a mapped table beside them, a few thousand rows at a time."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchflow.data.cache_use import made_and_used
from torchflow.data.readers.arrow import is_text, numbers_of, pyarrow
from torchflow.data.readers.mapped import MappedTable
from torchflow.data.readers.mapped_files import cannot_be_written, digest, read_manifest, write_mapped
from torchflow.data.readers.parquet_file import Parquet
from torchflow.data.readers.parquet_table import ParquetTable
from torchflow.errors import FileError, TableError

LARGEST_PIECE = 2**28
"""Bytes of texts that are decoded together."""
_LEFT_FREE = 2**28


def spilled(table: ParquetTable, folder: Path) -> MappedTable:
    """Return the table of a cache folder, which is made where it is missing, or of other files.

    Raises:
        FileError: A parquet file is damaged, or the disk is too small.
        TableError: One holds whole numbers that int64 does not.
    """
    states = [_state(file) for file in table.files]
    origin = {"files": states, "columns": list(table.names)}
    # A folder of its own for each choice of files and columns: several may share one cache=.
    folder = folder / f"{table.files[0].path.stem}-{digest([[state['path'] for state in states], origin['columns']])}"
    try:
        use = made_and_used(folder)
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    manifest = read_manifest(folder, origin)
    if manifest is None:
        schema = pyarrow("from_parquet").schema([(field.name, _plain_type(field.type)) for field in table.schema])
        pieces = (_plain(part, schema, path) for path, piece in table.pieces() for part in _parts(piece, path, folder))
        manifest = write_mapped(folder, pieces, schema, table.moments, origin)
    return MappedTable(folder, manifest, "from_parquet", use)


def _state(file: Parquet) -> dict[str, Any]:
    """Return what a file is known by."""
    found = file.path.stat()
    return {"path": os.path.realpath(file.path), "bytes": found.st_size, "time": found.st_mtime_ns}


def _plain_type(kind: Any) -> Any:
    """Return the type that a column has in a mapped table."""
    arrow, types = pyarrow("from_parquet"), importlib.import_module("pyarrow.types")
    inner = kind.value_type if types.is_dictionary(kind) else kind
    if is_text(inner):
        return arrow.large_string()
    if types.is_boolean(inner):
        return arrow.bool_()
    if types.is_integer(inner):
        return arrow.int64()
    return arrow.float32() if types.is_floating(inner) and inner != "double" else arrow.float64()


def _parts(piece: Any, path: str, folder: Path) -> Iterator[Any]:
    """Yield a record batch in parts whose texts are not too long to lie in memory.

    A text that stands twenty million times in a column stands once in its file: what is written may be thousands of times
    as large, so the room on the disk is looked at first.
    """
    size = piece.nbytes + sum(_length_of_texts(column) for column in piece.columns)
    if shutil.disk_usage(folder).free < size + _LEFT_FREE:
        raise FileError(f"{folder} has no room for {path} decoded. Pass a cache= on another disk.", folder)
    if size > LARGEST_PIECE and len(piece) > 1:
        half = len(piece) // 2
        yield from _parts(piece.slice(0, half), path, folder)
        yield from _parts(piece.slice(half), path, folder)
    elif size > LARGEST_PIECE:
        raise FileError(f"{path} has a row of more than {LARGEST_PIECE // 2**20} MiB. Leave out its column.", path)
    else:
        yield piece


def _length_of_texts(column: Any) -> int:
    """Return the bytes of a column's texts, each as often as it stands there."""
    types, compute = importlib.import_module("pyarrow.types"), importlib.import_module("pyarrow.compute")
    if not types.is_dictionary(column.type) or not is_text(column.type.value_type):
        return 0
    lengths = compute.binary_length(column.dictionary.cast("large_string"))
    return compute.sum(lengths.take(column.indices)).as_py() or 0


def _plain(piece: Any, schema: Any, path: str) -> Any:
    """Return a record batch with columns of the plain types."""
    arrow = pyarrow("from_parquet")
    columns = [_plain_column(piece.column(field.name), field, path) for field in schema]
    return arrow.record_batch(columns, schema=schema)


def _plain_column(column: Any, field: Any, path: str) -> Any:
    arrow = pyarrow("from_parquet")
    if hasattr(column, "dictionary"):
        column = column.dictionary_decode()
    if field.type not in ("bool", "int64", "large_string"):
        return arrow.array(numbers_of(column, field.name, path))
    try:
        return column.cast(field.type)
    except arrow.ArrowInvalid as error:
        said = f"column {field.name!r} of {path} cannot be kept: {error}"
        raise TableError(f"{said}. Leave it out (features=[...]).") from error
