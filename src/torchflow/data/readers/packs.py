"""Packs: the records of sequence files as a few long arrays, in memory or mapped from a folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchflow.data.cache_use import Use, use_of
from torchflow.data.readers.files import Files, examined
from torchflow.data.readers.packing import Packing, fill
from torchflow.errors import FileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "torchflow-pack/1"
_DTYPES = {"codes": "<u1", "lengths": "<i8", "qualities": "<u1", "headers": "<u1", "header_lengths": "<i8"}


class Pack:
    """The records of several files.

    Args:
        columns: By name: codes, uint8 (bases,), every record's letters, one after the other; lengths, int64 (records,);
            qualities, uint8 (bases,) or empty; headers, uint8 (characters,), every header in UTF-8; header_lengths, int64
            (records,).
        counts: How many records each file has.
        folder: Where the columns are mapped from; None in memory.
        use: The use of that folder.

    Attributes:
        codes: uint8, shape (bases,).
        offsets: int64, shape (records + 1,): where each record begins in codes.
        qualities: uint8, shape (bases,), or None.
    """

    def __init__(
        self, columns: Mapping[str, NDArray[Any]], counts: Sequence[int], folder: Path | None = None, use: Use | None = None
    ) -> None:
        self._columns, self._folder, self._use = columns, folder, use
        self.counts = tuple(counts)
        self.codes: NDArray[np.uint8] = columns["codes"]
        self.qualities: NDArray[np.uint8] | None = columns["qualities"] if len(columns["qualities"]) else None
        self.offsets = _offsets(columns["lengths"])
        self._header_offsets = _offsets(columns["header_lengths"])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __reduce__(self) -> Any:
        """A mapped pack travels as the name of its folder, and is mapped again where it arrives."""
        return (Pack, (self._columns, self.counts)) if self._folder is None else (_mapped_pack, (self._folder,))

    def header(self, number: int) -> str:
        """Return the header of a record, without its mark."""
        start, stop = self._header_offsets[number : number + 2].tolist()
        return self._columns["headers"][start:stop].tobytes().decode("utf-8", "replace")


def packed(files: Files, packing: Packing, cache: Path | None, bad: str) -> tuple[Files, Pack]:
    """Return the pack of the files that can be read, and those files.

    Args:
        files: What to read, once.
        packing: How.
        cache: A folder in which the pack is kept, and found again while no file has changed; None packs in memory.
        bad: "raise" or "skip".

    Raises:
        FileError: A file cannot be read; the message names file, record and base.
    """
    if cache is None:
        good, parts = examined(files, partial(_in_memory, packing=packing), bad)
        counts = [len(part["lengths"]) for part in parts]
        return good, Pack({name: _joined([part.pop(name) for part in parts]) for name in _DTYPES}, counts)
    target = cache / f"dna-{_key(files, packing, bad)}"
    use = _use_of(target)
    while use is None:
        good, _ = examined(files, partial(_validate, packing=packing), bad)
        _write(target, files, good, packing)
        use = _use_of(target)
    places, skipped, pack = mapped(target, use)
    return files.chosen(places, skipped), pack


def _use_of(target: Path) -> Use | None:
    try:
        return use_of(target)
    except OSError as error:
        raise FileError(f"the pack in {target} cannot be read: {error.strerror or error}.", target) from error


def mapped(folder: Path, use: Use | None = None) -> tuple[list[int], tuple[tuple[str, str], ...], Pack]:
    """Return which files a folder's pack holds, which it skips, and the pack, mapped and not read.

    Raises:
        FileError: It is not what was written.
    """
    try:
        manifest = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"it has the format {manifest['format']!r}")
        columns = {name: _map(folder / name, dtype, int(manifest["sizes"][name])) for name, dtype in _DTYPES.items()}
        for lengths, values in (("lengths", "codes"), ("header_lengths", "headers")):
            if int(columns[lengths].min(initial=0)) < 0 or int(columns[lengths].sum()) != len(columns[values]):
                raise ValueError(f"its {lengths} do not fit its {values}")
        counts = [int(count) for count in manifest["counts"]]
        places = [int(place) for place in manifest["places"]]
        skipped = tuple((str(path), str(reason)) for path, reason in manifest["skipped"])
        if not sum(counts) == len(columns["lengths"]) == len(columns["header_lengths"]) or len(counts) != len(places):
            raise ValueError("its counts do not fit its records")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"the pack in {folder} is damaged: {error}. Delete that folder; it is made again.", folder) from error
    return places, skipped, Pack(columns, counts, folder, use)


def _mapped_pack(folder: Path) -> Pack:
    return mapped(folder)[2]


def _map(path: Path, dtype: str, count: int) -> NDArray[Any]:
    if path.stat().st_size != count * np.dtype(dtype).itemsize:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes")
    return np.memmap(path, dtype=dtype, mode="r", shape=(count,)) if count else np.zeros(0, dtype=dtype)


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _joined(columns: list[NDArray[Any]]) -> NDArray[Any]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


class _Growing:
    """A column that grows in memory."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def write(self, data: bytes) -> None:
        """Add to the end."""
        self.bytes += data


def _in_memory(path: str, packing: Packing) -> dict[str, NDArray[Any]]:
    """Return the columns of one file."""
    columns = {name: _Growing() for name in _DTYPES}
    fill(columns, path, packing)
    return {name: np.frombuffer(column.bytes, dtype=_DTYPES[name]) for name, column in columns.items()}


class _Nowhere:
    """A column that nobody wants."""

    def write(self, data: bytes) -> None:
        """Forget."""


def _validate(path: str, packing: Packing) -> None:
    """Read a file to its end."""
    fill(dict.fromkeys(_DTYPES, _Nowhere()), path, packing)


def _write(target: Path, files: Files, good: Files, packing: Packing) -> None:
    """Write a pack beside its place, and put it there in one piece."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            counts, sizes = _write_columns(building, good, packing)
            kept = set(good.paths)
            places = [place for place, path in enumerate(files.paths) if path in kept]
            manifest = {"format": FORMAT, "sizes": sizes, "counts": counts, "places": places, "skipped": good.skipped}
            (building / "pack.json").write_text(json.dumps(manifest), encoding="utf-8")
            if not target.is_dir():  # another process may have been faster, with the same content
                os.rename(building, target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        if not target.is_dir():
            said = f"the cache folder {target.parent} cannot be written: {error.strerror or error}."
            raise FileError(f"{said} Name another one: cache=.", target.parent) from error


def _write_columns(folder: Path, files: Files, packing: Packing) -> tuple[list[int], dict[str, int]]:
    """Write the columns of files, one after the other; return the records of each file, and the size of each column."""
    columns = {name: open(folder / name, "wb") for name in _DTYPES}  # noqa: SIM115  (closed below)
    try:
        counts = [fill(columns, path, packing) for path in files.paths]
        return counts, {name: columns[name].tell() // np.dtype(dtype).itemsize for name, dtype in _DTYPES.items()}
    finally:
        for column in columns.values():
            column.close()


def _key(files: Files, packing: Packing, bad: str) -> str:
    """Return a name for a pack that changes with the files and with what is read out of them."""
    said = [FORMAT, repr(packing), bad]
    for path in files.paths:
        try:
            found = os.stat(path)
            said.append(f"{os.path.realpath(path)} {found.st_size} {found.st_mtime_ns}")
        except OSError:
            said.append(f"{path} is not there")
    return hashlib.blake2b("\n".join(said).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
