"""The caches in a folder, as plain frozen facts, and their removal; see :mod:`torchflow.command`.

A cache is known by what torchflow wrote into it: a manifest with the name of its format, and beside it nothing but files of that
format. Whatever else lies in a folder is neither listed nor touched, and no link is followed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torchflow.checkpoint.files import read_file
from torchflow.data.cache_use import is_used, taken
from torchflow.data.disk_cache import FORMAT as SAMPLES
from torchflow.data.readers.mapped_files import FORMAT as TABLE
from torchflow.data.readers.packs import FORMAT as PACK
from torchflow.errors import CacheError, CheckpointError

_LARGEST_MANIFEST = 2**28
_ASIDE = ".cleared-"
"""How the name of a cache begins that somebody was removing."""


@dataclass(frozen=True)
class Kind:
    """One kind of cache: its format, its manifest, the name of its folder, and the names of all files that it has."""

    format: str
    manifest: str
    folder: re.Pattern[str]
    files: re.Pattern[str]


KINDS = (
    Kind(SAMPLES, "manifest.json", re.compile(r"[0-9a-f]{32}"), re.compile(r"samples-\d+\.(safetensors|lock)|\.tmp-.+")),
    Kind(TABLE, "manifest.json", re.compile(r".+-[0-9a-f]{16}"), re.compile(r"[0-9a-f]{16}\.arrow(\.\d+-\d+\.(part|json))?")),
    Kind(PACK, "pack.json", re.compile(r"dna-[0-9a-f]{24}"), re.compile(r"codes|lengths|qualities|headers|header_lengths")),
)


@dataclass(frozen=True)
class Cache:
    """A cache.

    Attributes:
        path: Where it is.
        made_of: What it was made of.
        bytes: The room of its files.
        age: Seconds since it was used last.
        in_use: Whether a program uses it now; None where that cannot be seen.
    """

    path: str
    made_of: str
    bytes: int
    age: float
    in_use: bool | None


@dataclass(frozen=True)
class Caches:
    """The caches of a folder, and the room that they take together."""

    folder: str
    caches: tuple[Cache, ...]
    bytes: int


@dataclass(frozen=True)
class Cleared:
    """What was removed from a folder, what was left with the reason, and the room that is free again."""

    folder: str
    removed: tuple[Cache, ...]
    left: tuple[tuple[Cache, str], ...]
    bytes: int


def caches_in(folder: Path, older_than: float = 0.0) -> Caches:
    """Return the caches of a folder, those that were used last before the others.

    Args:
        folder: What a ``cache`` was given, or one cache in it.
        older_than: Days; those that were used since are left out.

    Raises:
        CacheError: There is no folder, or it cannot be listed.
    """
    found = tuple(cache for cache, _ in _found(folder, older_than))
    return Caches(str(folder), found, sum(cache.bytes for cache in found))


def clear_caches(folder: Path, older_than: float = 0.0) -> Cleared:
    """Remove the caches of a folder that nobody uses.

    Each first gets another name, so that a program that comes for it finds none and makes it anew. One that is being read, or that
    holds what torchflow did not write, is left.

    Args:
        folder: What a ``cache`` was given, or one cache in it.
        older_than: Days; those that were used since are left.

    Raises:
        CacheError: There is no folder, or it cannot be listed.
    """
    removed, left = [], []
    for cache, kind in _found(folder, older_than):
        reason = _removed(Path(cache.path), kind)
        if reason is None:
            removed.append(replace(cache, in_use=False))
        else:
            left.append((cache, reason))
    return Cleared(str(folder), tuple(removed), tuple(left), sum(cache.bytes for cache in removed))


def _found(folder: Path, older_than: float) -> list[tuple[Cache, Kind]]:
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise CacheError(f"{folder} is no folder; give the folder that a cache was given.")
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        raise CacheError(f"{folder} does not exist.") from None
    except OSError as error:
        raise CacheError(f"{folder} cannot be listed: {error.strerror or error}.") from error
    itself = _recognised(Path(os.path.abspath(folder)))
    places = [(folder, itself)] if itself else [(folder / name, found) for name in names if (found := _recognised(folder / name))]
    caches = [(_cache(place, kind, manifest), kind) for place, (kind, manifest) in places]
    return sorted((pair for pair in caches if pair[0].age >= older_than * 86_400), key=lambda pair: pair[0].age)


def _recognised(path: Path) -> tuple[Kind, Mapping[str, Any]] | None:
    """Return the kind of a cache and its manifest; None where torchflow has not written it."""
    if path.is_symlink() or not path.is_dir():
        return None
    for kind in KINDS:
        if not path.name.startswith(_ASIDE) and not kind.folder.fullmatch(path.name):
            continue
        try:
            manifest = json.loads(read_file(path / kind.manifest, limit=_LARGEST_MANIFEST))
        except (CheckpointError, ValueError):
            continue
        if isinstance(manifest, dict) and manifest.get("format") == kind.format:
            return kind, manifest
    return None


def _cache(path: Path, kind: Kind, manifest: Mapping[str, Any]) -> Cache:
    try:
        size = sum(entry.stat(follow_symlinks=False).st_size for entry in _entries(path))
        age = time.time() - os.lstat(path).st_mtime
    except OSError:  # somebody removes it meanwhile
        size, age = 0, 0.0
    return Cache(str(path), _made_of(kind, manifest), size, max(0.0, age), is_used(path))


def _made_of(kind: Kind, manifest: Mapping[str, Any]) -> str:
    """Return what a manifest says that a cache was made of."""
    try:
        if kind.format == SAMPLES:
            return f"{int(manifest['samples'])} samples of {manifest['made_of']}"
        if kind.format == TABLE:
            files, columns = manifest["origin"]["files"], manifest["origin"]["columns"]
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            return f"{len(columns)} columns of {files[0]['path']}{more}"
        return f"{sum(manifest['counts'])} sequences of {len(manifest['counts'])} files"
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return "its manifest does not say what"


def _removed(path: Path, kind: Kind) -> str | None:
    """Remove a cache; return why that could not be."""
    try:
        odd = _not_ours(_entries(path), kind)
        if odd is not None:
            return f"{odd} in it was not written by torchflow"
        aside = path.with_name(f"{_ASIDE}{secrets.token_hex(8)}")
        gone = taken(path, aside)
        if not gone:
            return "a program uses it" if gone is False else "this disk does not say whether a program uses it; delete it yourself"
        names = [entry.name for entry in _entries(aside)]
        for name in sorted(names, key=kind.manifest.__eq__):  # the manifest last: what is left of a cache is still known
            os.unlink(aside / name)
        os.rmdir(aside)
    except FileNotFoundError:
        return "somebody else removes it"
    except OSError as error:
        return f"it cannot be removed: {error.strerror or error}"
    return None


def _not_ours(entries: Iterable[os.DirEntry[str]], kind: Kind) -> str | None:
    """Return the name of something in a cache that is no file of its format."""
    for entry in entries:
        ours = entry.name == kind.manifest or kind.files.fullmatch(entry.name) is not None
        if not ours or not entry.is_file(follow_symlinks=False):
            return entry.name
    return None


def _entries(path: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from entries
