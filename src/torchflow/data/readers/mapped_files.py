"""Writing a mapped table: all of it or nothing, whoever else writes it at the same time."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchflow.data.readers.arrow import pyarrow
from torchflow.data.readers.columns import EXACT
from torchflow.data.readers.mapped import Manifest
from torchflow.errors import FileError

MANIFEST = "manifest.json"
FORMAT = "torchflow-table/1"
_WHOLE = ("bool", "int64")
_ABANDONED = 600.0
"""Seconds after which a file that nobody has gone on writing is one that was left behind."""


class Kinds:
    """What the columns of a table turn out to be, while its pieces pass by."""

    def __init__(self) -> None:
        self._gaps: set[str] = set()
        self._large: set[str] = set()

    def seen(self, piece: Any) -> None:
        """Look at a record batch of bool, int64, float, double and large_string columns."""
        compute = importlib.import_module("pyarrow.compute")
        for name, column in zip(piece.schema.names, piece.columns, strict=True):
            if column.type in _WHOLE and column.null_count:
                self._gaps.add(name)
            if column.type == "int64":
                extremes = compute.min_max(column).as_py()
                if any(value is not None and abs(value) > EXACT for value in extremes.values()):
                    self._large.add(name)

    def of(self, schema: Any) -> dict[str, str]:
        """Return the kind of each column: whole numbers with gaps are floats, or texts where a float would change them."""
        kinds = {field.name: "text" if field.type == "large_string" else str(field.type) for field in schema}
        gaps = {name: "text" if name in self._large else "double" for name in self._gaps}
        return {name: gaps.get(name, kind) for name, kind in kinds.items()}


def write_mapped(folder: Path, pieces: Iterable[Any], schema: Any, moments: Sequence[str], origin: Mapping[str, Any]) -> Manifest:
    """Write record batches to a mapped table, of which nothing counts until its manifest is there.

    Args:
        folder: Where; it is made.
        pieces: Record batches of the schema, at most a few ten thousand rows each.
        schema: Arrow's: columns of bool, int64, float, double and large_string.
        moments: The columns of dates.
        origin: What it is made from.

    Raises:
        FileError: The folder cannot be written.
    """
    arrow = pyarrow("a mapped table")
    kinds, sizes = Kinds(), []
    name = f"{digest(origin)}.arrow"
    part = folder / f"{name}.{os.getpid()}-{time.monotonic_ns()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder, "*.part")
        with arrow.OSFile(str(part), "wb") as file, arrow.ipc.new_file(file, schema) as writer:
            for piece in pieces:
                if len(piece):
                    kinds.seen(piece)
                    sizes.append(len(piece))
                    writer.write_batch(piece)
        manifest = Manifest(FORMAT, origin, name, sizes, kinds.of(schema), list(moments), part.stat().st_size)
        said = part.with_suffix(".json")
        said.write_text(json.dumps(dataclasses.asdict(manifest)), encoding="utf-8")
        os.replace(part, folder / name)
        os.replace(said, folder / MANIFEST)
        _tidy(folder, "*.arrow", keep=name)
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return manifest


def read_manifest(folder: Path, origin: Mapping[str, Any]) -> Manifest | None:
    """Return the manifest of a mapped table that was made from just this; None where there is none, or another."""
    try:
        found = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        size = (folder / found.file).stat().st_size
    except (OSError, ValueError, TypeError):
        return None
    return found if (found.format, found.origin, found.bytes) == (FORMAT, origin, size) else None


def cannot_be_written(folder: Path, error: OSError) -> FileError:
    """Return the error of a folder that the disk refuses."""
    return FileError(f"{folder} cannot be written: {error.strerror or error}. Pass another cache=.", folder)


def digest(value: object) -> str:
    """Return sixteen hexadecimal digits of a value that JSON can say."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _tidy(folder: Path, pattern: str, keep: str = "") -> None:
    """Remove files that were left behind: by a writer that died, or of an older version of the table."""
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # another writer has finished with it meanwhile
            if path.name != keep and (keep or time.time() - path.stat().st_mtime > _ABANDONED):
                path.unlink()
