"""``run.json``: what a run was started with, and small pointer files; each replaced in one piece, each with a digest."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchflow.arguments import shown
from torchflow.checkpoint.files import FileSystem, read_file, replace_file
from torchflow.checkpoint.format import decode, encode
from torchflow.checkpoint.json_text import canonical, parse
from torchflow.errors import ArgumentValueError, CorruptCheckpointError, StateError
from torchflow.types import State

RUN = "run.json"
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
        warnings.warn(f"{error} It is only a hint and is left out.", stacklevel=3)
        return None
    step = content.get("step") if isinstance(content, dict) else None
    return step if type(step) is int and step >= 0 else None


def pointer_path(folder: Path, name: str) -> Path:
    """Return where a pointer lies, once its name is known to be harmless."""
    if not isinstance(name, str) or _POINTER.fullmatch(name) is None or name in ("run", "lock"):
        raise ArgumentValueError(f"name must be a short word in lower case, for example 'best', and not 'run', got {shown(name)}.")
    return folder / f"{name}.json"
