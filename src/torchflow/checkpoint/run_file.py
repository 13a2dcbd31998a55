"""``run.json``: what a run was started with, and small pointer files; each replaced in one piece, each with a digest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchflow.arguments import shown
from torchflow.caller import warn_caller
from torchflow.checkpoint.compare import differences
from torchflow.checkpoint.files import FileSystem, read_file, replace_file
from torchflow.checkpoint.format import decode, encode
from torchflow.checkpoint.json_text import canonical, parse
from torchflow.errors import ArgumentValueError, CorruptCheckpointError, MismatchError, StateError
from torchflow.types import State

RUN = "run.json"
HISTORY = "history.jsonl"
RUN_FORMAT = "torchflow-run/1"
_LIMIT = 2**24
_POINTER = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)


def write_run(files: FileSystem, folder: Path, run: Mapping[str, State]) -> None:
    """Write ``run.json``.

    Raises:
        StateError: The run is not in the state language, or holds tensors.
        OSError: The disk refused; what was there before is untouched.
    """
    encoded = encode(run)
    if encoded.tensors:
        raise StateError(f"run must hold no tensors, found {sorted(encoded.tensors)}.")
    rest = {"format": RUN_FORMAT, "run": json.loads(encoded.text)}
    text = canonical({**rest, "digest": hashlib.sha256(canonical(rest)).hexdigest()}) + b"\n"
    replace_file(files, folder / RUN, [memoryview(text)])


def keep_run(files: FileSystem, folder: Path, run: Mapping[str, State], *, compare: bool) -> None:
    """Write ``run.json`` where there is none; what is stored stays, and a damaged one is kept under another name.

    Raises:
        MismatchError: With ``compare``, the folder holds a run that was started with something else.
        OSError: The disk refused; what was there before is untouched.
    """
    path = folder / RUN
    if not os.path.lexists(path):
        write_run(files, folder, run)
        return
    try:
        found = differences(read_run(folder), run)
    except CorruptCheckpointError as error:
        aside = folder / f".bad-{RUN}-{secrets.token_hex(4)}"
        files.rename(path, aside)
        warn_caller(f"{error} It is kept as {aside.name} and written anew.")
        write_run(files, folder, run)
        return
    if found and compare:
        raise MismatchError(
            f"{folder} holds a run that was started with something else; choose another folder, or set "
            "this one aside with resume=False:\n" + "\n".join(found),
            found,
        )


def write_history(files: FileSystem, folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write ``history.jsonl``: one row a line, each with the CRC-32 of its values in eight hexadecimal digits.

    Raises:
        OSError: The disk refused; what was there before is untouched.
    """
    lines = []
    for row in rows:
        values = canonical({name: value if math.isfinite(value) else {"$float": str(value)} for name, value in row.items()})
        lines.append(b'{"crc32":"%08x","row":%s}\n' % (zlib.crc32(values), values))
    replace_file(files, folder / HISTORY, [memoryview(b"".join(lines))])


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read ``history.jsonl``; no file, no rows.

    Raises:
        CorruptCheckpointError: A line is not what was written.
    """
    where = folder / HISTORY
    if not where.exists():
        return []
    rows = []
    for number, line in enumerate(read_file(where, limit=_LIMIT).splitlines(), start=1):
        record = parse(line, f"{where}:{number}")
        values = record.get("row") if isinstance(record, dict) else None
        if not isinstance(values, dict) or record != {"crc32": f"{zlib.crc32(canonical(values)):08x}", "row": values}:
            raise CorruptCheckpointError(f"{where}:{number} is not what was written: its checksum differs.")
        rows.append(decode(canonical(values), {}, f"{where}:{number}"))
    return rows


def read_run(folder: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises:
        CorruptCheckpointError: It is not what was written.
    """
    where = folder / RUN
    content = parse(read_file(where, limit=_LIMIT), str(where))
    if not isinstance(content, dict) or content.keys() != {"format", "run", "digest"} or content["format"] != RUN_FORMAT:
        raise CorruptCheckpointError(f"{where} is not in the format {RUN_FORMAT!r}.")
    rest = {"format": content["format"], "run": content["run"]}
    if content["digest"] != hashlib.sha256(canonical(rest)).hexdigest():
        raise CorruptCheckpointError(f"{where} is not what was written: its digest differs.")
    return decode(canonical(content["run"]), {}, str(where))


def write_pointer(files: FileSystem, folder: Path, name: str, step: int) -> None:
    """Write ``<name>.json``, which points at a step.

    Raises:
        OSError: The disk refused; what was there before is untouched.
    """
    replace_file(files, pointer_path(folder, name), [memoryview(canonical({"step": step}) + b"\n")])


def read_pointer(folder: Path, name: str) -> int | None:
    """Return the step that a pointer names; None if there is none, or, with a warning, if it cannot be read."""
    where = pointer_path(folder, name)
    if not where.exists():
        return None
    try:
        content = parse(read_file(where, limit=_LIMIT), str(where))
    except CorruptCheckpointError as error:
        warn_caller(f"{error} It is only a hint and is left out.")
        return None
    step = content.get("step") if isinstance(content, dict) else None
    return step if type(step) is int and step >= 0 else None


def pointer_path(folder: Path, name: str) -> Path:
    """Return where a pointer lies, once its name is known to be harmless."""
    if not isinstance(name, str) or _POINTER.fullmatch(name) is None or name in ("run", "lock"):
        raise ArgumentValueError(f"name must be a short word in lower case, for example 'best', and not 'run', got {shown(name)}.")
    return folder / f"{name}.json"
