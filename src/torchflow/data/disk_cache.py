"""Samples that are made once and kept on disk: safetensors files that are mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from torchflow.checkpoint.files import FILES, replace_file
from torchflow.checkpoint.shards import make_shard, raw
from torchflow.data.cache_use import Use, made_and_used
from torchflow.data.describing import digest_of
from torchflow.data.draw import Draw, first_draw
from torchflow.data.packing import pack, unpack
from torchflow.data.sources import Source
from torchflow.errors import CacheError
from torchflow.tree import leaves

try:
    import fcntl
except ImportError:  # Windows: two processes may make the same file, and the last one is kept
    fcntl = None  # type: ignore[assignment]

FORMAT = "torchflow-cache/1"
SHARD_BYTES = 8 * 2**20
SHARD_SAMPLES = 256
OPEN = 64  # files that stay mapped


class DiskCache(Source):
    """The parent's samples, each made once and kept in files of some samples each.

    A folder holds many caches, each under the digest of what it is made of, so another source or transform never reads it.
    Every file is written whole under another name and then renamed: whoever is killed leaves files that are whole, or none.
    Any number of processes may fill and read at a time.

    Args:
        parent: Where the samples are; without random maps.
        folder: Where caches are kept.
    """

    columnar = False
    users = True  # the start of a run reads none, for each would fill a file

    def __init__(self, parent: Source, folder: Path) -> None:
        self.parents = (parent,)
        self.schema = parent.schema
        self.fingerprint = digest_of(parent)
        self.folder = folder / self.fingerprint
        self._opened: dict[int, tuple[dict[str, Tensor], dict[str, Any]]] = {}
        self._size = 0
        self._complete = False
        with _told(self.folder):
            self._use: Use | None = made_and_used(self.folder)

    @property
    def length(self) -> int:
        """The parent's."""
        return self.parents[0].length

    @property
    def lineage(self) -> str:
        """The parent's, and the verb."""
        return f"{self.parents[0].lineage}.cache(folder)"

    @property
    def foreign(self) -> bool:
        """Whether samples are still to be made, by the user's Python."""
        return self.parents[0].foreign and not self.complete()

    def complete(self) -> bool:
        """Return whether every sample is on disk."""
        if not self._complete and self._per_file_known():
            files = -(-self.length // self._size)
            self._complete = all(self._path(number).exists() for number in range(files))
        return self._complete

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the samples out of their files; a file that is missing is made first, under epoch 0 and seed 0."""
        size = self._per_file()
        made = []
        for index in indices.tolist():
            tensors, layout = self._file(index // size)
            made.append(unpack(tensors, layout, index % size))
        return made

    def column(self, part: str | int) -> Tensor | None:
        """Return the parent's."""
        return self.parents[0].column(part)

    def made_of(self) -> dict[str, Any]:
        """Return the parent alone: where samples are kept, and how many are, changes none of them."""
        return {"parents": self.parents}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": {}, "_use": None}  # whoever sends it goes on using the folder

    def _path(self, number: int) -> Path:
        return self.folder / f"samples-{number:06d}.safetensors"

    def _per_file_known(self) -> bool:
        return self._size > 0 or ((self.folder / "manifest.json").exists() and self._per_file() > 0)

    def _per_file(self) -> int:
        """Return how many samples a file holds: what the manifest says, which the first sample's size decides."""
        if not self._size:
            path = self.folder / "manifest.json"
            size = _size_in(path)
            if size is None:
                first = self.parents[0].samples(torch.zeros(1, dtype=torch.int64), first_draw())[0] if self.length else 0
                nbytes = sum(_nbytes(leaf) for leaf in leaves(first))
                size = max(1, min(SHARD_SAMPLES, SHARD_BYTES // max(1, nbytes)))
                self._write_manifest(path, size)
            self._size = size
        return self._size

    def _write_manifest(self, path: Path, size: int) -> None:
        manifest = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "made_of": self.parents[0].lineage,
            "samples": self.length,
            "samples_a_file": size,
            "schema": None if self.schema is None else [str(field) for field in self.schema.fields],
        }
        with _told(self.folder):
            replace_file(FILES, path, [memoryview(json.dumps(manifest, indent=1).encode() + b"\n")])

    def _file(self, number: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the mapped tensors of a file and how they make samples."""
        found = self._opened.get(number)
        if found is None:
            found = self._read(number) or self._fill(number)
            self._opened[number] = found
            if len(self._opened) > OPEN:
                self._opened.pop(next(iter(tuple(self._opened))), None)
        return found

    def _fill(self, number: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Make the samples of a file and write it, unless somebody else has meanwhile."""
        with self._alone(number):
            found = self._read(number)
            if found is None:
                begin = number * self._size
                indices = torch.arange(begin, min(begin + self._size, self.length))
                tensors, layout = pack(self.parents[0].samples(indices, first_draw()), begin)
                shard = make_shard(tensors, {"format": FORMAT, "layout": layout, "digest": _digest(tensors, layout)})
                with _told(self.folder):
                    replace_file(FILES, self._path(number), shard.chunks())
                found = self._read(number)
        if found is None:
            raise CacheError(f"{self._path(number)} cannot be read back. Is something else writing into {self.folder}?")
        return found

    def _read(self, number: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return a file's tensors and layout, or None where it is missing or is not what was written, which is warned of."""
        path = self._path(number)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            layout = json.loads(metadata["layout"])
            sound = metadata.get("digest") == _digest(tensors, metadata["layout"])
        except (SafetensorError, OSError, KeyError, ValueError):
            sound, layout = False, {}
        if not sound:
            warnings.warn(f"{path} is not what was written; it is made anew.", stacklevel=2)
            _discard(path)
            return None
        return tensors, {**layout, "whole": frozenset(layout["whole"])}

    @contextmanager
    def _alone(self, number: int) -> Iterator[None]:
        """Keep other threads and processes from making the same file; the lock ends with its holder, however that ends."""
        path = self.folder / f"samples-{number:06d}.lock"
        with _told(self.folder):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _lock(descriptor, held=True)
            yield
        finally:
            _discard(path)
            _lock(descriptor, held=False)  # said openly: a process that was forked meanwhile holds the descriptor too
            os.close(descriptor)


def _size_in(path: Path) -> int | None:
    """Return the samples a file of a manifest; None where there is none that can be believed."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        size = manifest["samples_a_file"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if type(size) is int and 0 < size <= SHARD_SAMPLES else None


def _nbytes(leaf: Any) -> int:
    """Return about how many bytes a leaf takes."""
    return leaf.numel() * leaf.element_size() if isinstance(leaf, Tensor) else int(getattr(leaf, "nbytes", 64))


def _digest(tensors: Mapping[str, Tensor], layout: str) -> str:
    digest = hashlib.blake2b(layout.encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(raw(tensors[name]))
    return digest.hexdigest()


def _discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _lock(descriptor: int, *, held: bool) -> None:
    """Wait for a lock, or give it back; where there are none, as on some file systems, do nothing."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX if held else fcntl.LOCK_UN)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into one that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = "Free some space or choose another folder, or use cache() in memory."
        raise CacheError(f"the cache {folder} cannot be written: {error.strerror or error}. {remedy}") from error
