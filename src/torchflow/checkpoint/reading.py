"""Reading one checkpoint: nothing is believed that has not been verified."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from torchflow.checkpoint.files import read_file
from torchflow.checkpoint.format import STATE_BYTES, decode
from torchflow.checkpoint.json_text import canonical
from torchflow.checkpoint.manifest import MANIFEST, MANIFEST_BYTES, STATE, FileEntry, Manifest, parse_manifest
from torchflow.checkpoint.shards import read_shard
from torchflow.errors import CorruptCheckpointError


@dataclass(frozen=True)
class Loaded:
    """A verified checkpoint in memory.

    Attributes:
        step: The number of updates that the state has seen.
        state: The state tree; its values are checked by whoever knows what they must be, hence ``Any``.
        environment: The fingerprint of the environment that wrote it.
        path: The checkpoint's folder.
        parent: The step of the checkpoint before it, or None.
    """

    step: int
    state: dict[str, Any]
    environment: dict[str, Any]
    path: Path
    parent: int | None = None


def read_checkpoint(path: Path) -> Loaded:
    """Read one checkpoint, each file once, with every byte checked against the manifest before it is parsed.

    Args:
        path: The folder of one checkpoint, ``.../step-000000120``.

    Raises:
        CorruptCheckpointError: A file is missing, surplus in the manifest, of another size or content, no regular
            file, or not in the format; the message names the file and the reason.
    """
    manifest = read_manifest(path)
    tensors: dict[str, Tensor] = {}
    state: dict[str, Any] = {}
    for entry in manifest.files:
        if entry.name == STATE:
            state = decode(read_verified(path, entry), tensors, str(path / STATE))
            continue
        for name, tensor in read_shard(read_verified(path, entry), str(path / entry.name)).items():
            if name in tensors:
                raise CorruptCheckpointError(f"{path / entry.name} holds the tensor {name!r} a second time.")
            tensors[name] = tensor
    environment = decode(canonical(manifest.environment), {}, str(path / MANIFEST))
    return Loaded(manifest.name.step, state, environment, path, manifest.parent)


def verify_checkpoint(path: Path) -> Manifest:
    """Check the manifest and the hash of every file, without building the state.

    Raises:
        CorruptCheckpointError: As :func:`read_checkpoint`.
    """
    manifest = read_manifest(path)
    for entry in manifest.files:
        read_verified(path, entry)
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a checkpoint's folder."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise CorruptCheckpointError(f"{path} is not the folder of a checkpoint.")
    except OSError as error:
        raise CorruptCheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    where = path / MANIFEST
    return parse_manifest(read_file(where, limit=MANIFEST_BYTES), str(where), Path(os.path.abspath(path)).name)


def read_verified(path: Path, entry: FileEntry) -> bytes:
    """Read one file of a checkpoint; the bytes that are returned are the bytes that were hashed."""
    where = path / entry.name
    if entry.name == STATE and entry.bytes > STATE_BYTES:
        raise CorruptCheckpointError(f"{where} would have {entry.bytes} bytes, above the limit of {STATE_BYTES}.")
    data = read_file(where, size=entry.bytes)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise CorruptCheckpointError(f"{where} is not what was written: its SHA-256 differs from the manifest.")
    return data
