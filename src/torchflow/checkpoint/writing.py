"""Publishing one checkpoint: everything under a temporary name, synced, then one rename."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torchflow.arguments import whole
from torchflow.checkpoint.files import FILES, TEMPORARY, FileSystem, discard, write_file
from torchflow.checkpoint.format import Encoded, encode
from torchflow.checkpoint.manifest import MANIFEST, STATE, CheckpointName, FileEntry, Manifest, shard_names
from torchflow.checkpoint.shards import SHARD_BYTES, split_into_shards
from torchflow.errors import CheckpointError, StateError
from torchflow.types import State


@dataclass(frozen=True)
class Draft:
    """A checkpoint in memory: its manifest, and the bytes of each file in the manifest's order."""

    manifest: Manifest
    contents: tuple[tuple[memoryview, ...], ...]


def write_checkpoint(
    folder: Path,
    step: int,
    state: Mapping[str, State],
    parent: int | None,
    environment: Mapping[str, State],
    *,
    revision: int = 0,
    files: FileSystem = FILES,
) -> Path:
    """Write one checkpoint into a folder that exists, and return its path once it is safely on the disk.

    Args:
        folder: Where the checkpoint's own folder will lie.
        step: The number of updates that the state has seen.
        state: The state tree; it is copied first and only read.
        parent: The step of the checkpoint that this one follows, or None.
        environment: The fingerprint, without tensors.
        revision: 0, or a number that no checkpoint of this step has yet.
        files: The disk.

    Raises:
        StateError: The state or the environment is not in the state language; nothing was written.
        CheckpointError: The disk refused; what was there before is untouched.
    """
    name = CheckpointName(whole("step", step, minimum=0), revision)
    return commit(folder, make_draft(name, state, parent, environment), files)


def make_draft(
    name: CheckpointName,
    state: Mapping[str, State] | Encoded,
    parent: int | None,
    environment: Mapping[str, State],
    shard_bytes: int = SHARD_BYTES,
) -> Draft:
    """Copy, spell out and hash a state, or hash one that was copied before; nothing is written."""
    encoded, surroundings = state if isinstance(state, Encoded) else encode(state), encode(environment)
    if surroundings.tensors:
        raise StateError(f"environment must hold no tensors, found {sorted(surroundings.tensors)}.")
    shards = split_into_shards(encoded.tensors, shard_bytes)
    contents = (*(tuple(shard.chunks()) for shard in shards), (memoryview(encoded.text),))
    names = [*shard_names(len(shards)), STATE]
    entries = tuple(_entry(file, chunks) for file, chunks in zip(names, contents, strict=True))
    return Draft(Manifest(name, parent, json.loads(surroundings.text), entries), contents)


def commit(folder: Path, draft: Draft, files: FileSystem) -> Path:
    """Put a draft on the disk; see :func:`write_checkpoint`."""
    final = folder / str(draft.manifest.name)
    temporary = folder / f"{TEMPORARY}{final.name}-{secrets.token_hex(8)}"
    try:
        files.make_folder(temporary)
        for entry, chunks in zip(draft.manifest.files, draft.contents, strict=True):
            write_file(files, temporary / entry.name, chunks)
        write_file(files, temporary / MANIFEST, [memoryview(draft.manifest.text())])
        files.sync_folder(temporary)
        files.rename(temporary, final)
        files.sync_folder(folder)
    except BaseException as error:
        discard(files, temporary)
        if isinstance(error, OSError):
            raise CheckpointError(
                f"{final} was not saved (step {draft.manifest.name.step}): {error.strerror or error}. "
                "Older checkpoints are untouched; free space or check the disk, then go on with resume=True."
            ) from error
        raise
    return final


def _entry(name: str, chunks: Iterable[memoryview]) -> FileEntry:
    digest, length = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        length += chunk.nbytes
    return FileEntry(name, length, digest.hexdigest())
