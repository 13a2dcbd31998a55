"""The manifest: what belongs to a checkpoint, to the byte.

``manifest.json`` is canonical JSON, so there is one text for one content::

    {"digest": "...", "environment": {...}, "files": [{"bytes": 81, "name": "state.json", "sha256": "..."}, ...],
     "format": "torchflow-checkpoint/1", "parent": 100, "revision": 0, "step": 120}

``digest`` is the SHA-256 of the canonical JSON of the rest. Step and revision must be those of the folder's name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from torchflow.arguments import shown
from torchflow.checkpoint.format import decode
from torchflow.checkpoint.json_text import canonical, parse
from torchflow.errors import CorruptCheckpointError

FORMAT = "torchflow-checkpoint/1"
MANIFEST = "manifest.json"
STATE = "state.json"
MANIFEST_BYTES = 2**24
"""The largest manifest that is read."""

_FOLDER = re.compile(r"step-([0-9]{9,19})(?:-r([1-9][0-9]{0,8}))?", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEYS = {"digest", "environment", "files", "format", "parent", "revision", "step"}


@dataclass(frozen=True, order=True)
class CheckpointName:
    """Which checkpoint: ordered by step (a count of updates), then by revision of that step."""

    step: int
    revision: int = 0

    def __str__(self) -> str:
        return f"step-{self.step:09d}" + (f"-r{self.revision}" if self.revision else "")


def checkpoint_name(folder_name: str) -> CheckpointName | None:
    """Return what a folder's name says, or None if it is not the name of a published checkpoint."""
    found = _FOLDER.fullmatch(folder_name)
    name = CheckpointName(int(found[1]), int(found[2] or 0)) if found else None
    return name if str(name) == folder_name else None  # one spelling for each: no zeros too many


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint: its plain name, its length in bytes, and the SHA-256 of its bytes in hex."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``; ``environment`` is in its encoded form, which holds no tensors."""

    name: CheckpointName
    parent: int | None
    environment: dict[str, Any]
    files: tuple[FileEntry, ...] = field(default=())

    def text(self) -> bytes:
        """Return the bytes of the file."""
        rest = self._rest()
        return canonical({**rest, "digest": _digest(rest)}) + b"\n"

    def _rest(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "step": self.name.step,
            "revision": self.name.revision,
            "parent": self.parent,
            "environment": self.environment,
            "files": [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in self.files],
        }


def parse_manifest(data: bytes, where: str, folder_name: str) -> Manifest:
    """Read a manifest back, trusting nothing in it.

    Args:
        data: The bytes of ``manifest.json``.
        where: Its path, for the error.
        folder_name: The name of the folder that it lies in.

    Raises:
        CorruptCheckpointError: Another format or version, a missing or surplus key, a wrong type, a file name that is
            not one of the format's own, a digest that does not match, or the name of another checkpoint.
    """
    content = parse(data, where)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise CorruptCheckpointError(f"{where} has the format {shown(found)}; this version reads {FORMAT!r}.")
    if content.keys() != _KEYS:
        raise CorruptCheckpointError(f"{where} must have the keys {sorted(_KEYS)}, found {sorted(content)}.")
    rest = {key: value for key, value in content.items() if key != "digest"}
    if content["digest"] != _digest(rest) or data != canonical(content) + b"\n":
        raise CorruptCheckpointError(f"{where} is not what was written: its digest or its spelling differs.")
    manifest = Manifest(*_checked_position(content, where), _checked_environment(content, where), _checked_files(content, where))
    if str(manifest.name) != folder_name:
        raise CorruptCheckpointError(f"{where} belongs to {manifest.name}, but its folder is called {folder_name!r}.")
    return manifest


def _digest(rest: dict[str, object]) -> str:
    return hashlib.sha256(canonical(rest)).hexdigest()


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _checked_position(content: dict[str, Any], where: str) -> tuple[CheckpointName, int | None]:
    step, revision, parent = content["step"], content["revision"], content["parent"]
    if not _is_count(step) or not _is_count(revision) or not (parent is None or (_is_count(parent) and parent <= step)):
        raise CorruptCheckpointError(f"{where} has no possible step, revision and parent: {step!r}, {revision!r}, {parent!r}.")
    return CheckpointName(step, revision), parent


def _checked_environment(content: dict[str, Any], where: str) -> dict[str, Any]:
    environment = content["environment"]
    if not isinstance(environment, dict):
        raise CorruptCheckpointError(f"{where} must hold its environment as an object, found {shown(environment)}.")
    decode(canonical(environment), {}, f"{where}: environment")
    return environment


def _checked_files(content: dict[str, Any], where: str) -> tuple[FileEntry, ...]:
    entries = content["files"]
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise CorruptCheckpointError(f"{where} must list files as name, bytes and sha256.")
    files = tuple(FileEntry(entry["name"], entry["bytes"], entry["sha256"]) for entry in entries)
    # The names follow from their number alone, so none of them can lead out of the folder.
    expected = [*shard_names(len(files) - 1), STATE]
    if [file.name for file in files] != expected:
        raise CorruptCheckpointError(f"{where} must list {expected[:3]}..., found {shown([file.name for file in files])}.")
    return files


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"name", "bytes", "sha256"}
        and isinstance(entry["name"], str)
        and _is_count(entry["bytes"])
        and isinstance(entry["sha256"], str)
        and _HASH.fullmatch(entry["sha256"]) is not None
    )


def shard_names(count: int) -> list[str]:
    """Return the names of the tensor files of a checkpoint that has ``count`` of them."""
    return [f"tensors-{number:05d}-of-{count:05d}.safetensors" for number in range(count)]
