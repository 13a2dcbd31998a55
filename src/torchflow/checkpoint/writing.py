"""Publishing one checkpoint: everything under a temporary name, synced, then one rename."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torchflow.arguments import whole
from torchflow.checkpoint.files import FILES, TEMPORARY, FileSystem, discard, write_file
from torchflow.checkpoint.format import Encoded, encode
from torchflow.checkpoint.manifest import MANIFEST, STATE, CheckpointName, FileEntry, Manifest, shard_names
from torchflow.checkpoint.shards import SHARD_BYTES, split_into_shards
from torchflow.errors import CheckpointError, StateError
from torchflow.types import State

PIECE = 4 * 2**20
"""How many bytes are hashed and then written in one go: they are still in the cache when they are written."""


def write_checkpoint(
    folder: Path,
    step: int,
    state: Mapping[str, State] | Encoded,
    parent: int | None,
    environment: Mapping[str, State],
    *,
    revision: int = 0,
    files: FileSystem = FILES,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write one checkpoint into a folder that exists, and return its path once it is safely on the disk.

    Args:
        folder: Where the checkpoint's own folder will lie.
        step: The number of updates that the state has seen.
        state: The state tree, which is copied first and only read; or a copy that :func:`encode` made before.
        parent: The step of the checkpoint that this one follows, or None.
        environment: The fingerprint, without tensors.
        revision: 0, or a number that no checkpoint of this step has yet.
        files: The disk.
        shard_bytes: How many bytes of tensors go into one file.

    Raises:
        StateError: The state or the environment is not in the state language; nothing was written.
        CheckpointError: The disk refused; what was there before is untouched.
    """
    name = CheckpointName(whole("step", step, minimum=0), revision)
    contents, surroundings = contents_of(state, shard_bytes), spelled(environment)
    final = folder / str(name)
    temporary = folder / f"{TEMPORARY}{name}-{secrets.token_hex(8)}"
    try:
        files.make_folder(temporary)
        entries = tuple(entry_of(file, chunks, partial(write_file, files, temporary / file)) for file, chunks in contents.items())
        write_file(files, temporary / MANIFEST, [memoryview(Manifest(name, parent, surroundings, entries).text())])
        files.sync_folder(temporary)
        files.rename(temporary, final)
        files.sync_folder(folder)
    except BaseException as error:
        discard(files, temporary)
        if isinstance(error, OSError):
            raise CheckpointError(
                f"{final} was not saved (step {step}): {error.strerror or error}. "
                "Older checkpoints are untouched; free space or check the disk, then go on with resume=True."
            ) from error
        raise
    return final


def contents_of(state: Mapping[str, State] | Encoded, shard_bytes: int = SHARD_BYTES) -> dict[str, list[memoryview]]:
    """Return the bytes of each file of a checkpoint apart from its manifest, in the manifest's order."""
    encoded = encode(state)
    shards = split_into_shards(encoded.tensors, shard_bytes)
    tensors = {name: list(shard.chunks()) for name, shard in zip(shard_names(len(shards)), shards, strict=True)}
    return {**tensors, STATE: [memoryview(encoded.text)]}


def spelled(environment: Mapping[str, State]) -> dict[str, Any]:
    """Return a fingerprint in the form that a manifest holds."""
    encoded = encode(environment)
    if encoded.tensors:
        raise StateError(f"environment must hold no tensors, found {sorted(encoded.tensors)}.")
    found: dict[str, Any] = json.loads(encoded.text)
    return found


def entry_of(name: str, chunks: Iterable[memoryview], take: Callable[[Iterator[memoryview]], object] = list) -> FileEntry:
    """Return what a manifest says about a file, hashed while its bytes are taken: written, or only gone through."""
    digest, length = hashlib.sha256(), 0

    def pieces() -> Iterator[memoryview]:
        nonlocal length
        for chunk in chunks:
            for start in range(0, chunk.nbytes, PIECE):
                piece = chunk[start : start + PIECE]
                digest.update(piece)
                length += piece.nbytes
                yield piece

    take(pieces())
    return FileEntry(name, length, digest.hexdigest())
