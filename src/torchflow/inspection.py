"""What there is to know about a run from its folder alone, as plain frozen facts; see :mod:`torchflow.command`."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchflow.callbacks.history import History
from torchflow.checkpoint import Loaded, Store, environment_differences, fingerprint
from torchflow.checkpoint.manifest import CheckpointName
from torchflow.checkpoint.run_file import RUN, read_run
from torchflow.checkpoint.store import CHECKPOINTS
from torchflow.checkpoint.survey import Examined, examine, holder_of, leftovers
from torchflow.device import available
from torchflow.errors import CheckpointError, CorruptCheckpointError
from torchflow.intervals import Progress

CHOSEN = ("deterministic", "dtype", "matmul_precision")
"""The parts of a fingerprint that the program chooses, so that a command cannot know the present ones."""


@dataclass(frozen=True)
class Folder:
    """The folder of a run.

    Attributes:
        path: Where it is.
        in_use: Whether a run writes there now; None where that cannot be seen from here.
        last_writer: Which process wrote there last, such as ``"pid 12 on host"``.
        best: The step that is marked as the best, whether it is there or not.
        rejected: What an earlier run found damaged and renamed.
        aside: Checkpoints of a future that an earlier resume did not take.
        notes: What is out of order beside the checkpoints, one sentence each.
    """

    path: str
    in_use: bool | None
    last_writer: str | None
    best: int | None
    rejected: tuple[str, ...]
    aside: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One checkpoint: its name, step, length in bytes, age in seconds, whether it is sound or why not, and the best mark."""

    name: str
    step: int
    bytes: int
    age: float | None
    sound: bool
    reason: str | None
    best: bool


@dataclass(frozen=True)
class Inspection:
    """A run at a glance. ``seed`` to ``differences`` are None or empty where nothing readable says them."""

    folder: Folder
    seed: int | None
    data: Mapping[str, Any] | None
    checkpoints: tuple[Entry, ...]
    newest: str | None
    stored_environment: Mapping[str, Any] | None
    present_environment: Mapping[str, Any]
    differences: tuple[str, ...]
    history: tuple[Mapping[str, float], ...]
    history_rows: int


@dataclass(frozen=True)
class Verification:
    """Every checkpoint, read to the last byte."""

    folder: Folder
    checkpoints: tuple[Entry, ...]


@dataclass(frozen=True)
class ResumePlan:
    """What a resume would do: which checkpoint it would load, which newer ones it would pass over, and where it would go on."""

    folder: Folder
    chosen: Entry | None
    passed_over: tuple[Entry, ...]
    position: Mapping[str, int] | None
    stopped_by: str | None
    stop_reason: str | None


def inspect(path: Path, rows: int | None = None) -> Inspection:
    """Look at a run.

    Args:
        path: The run's folder.
        rows: How many of the last rows of the history; None: all.

    Raises:
        CheckpointError: There is no folder, no run in it, or it cannot be read.
    """
    folder = look(path)
    entries: dict[CheckpointName, Entry] = {}
    newest, newest_name = None, None
    for found in examine(path):
        entries[found.name] = _entry(found, folder)
        if found.loaded is not None and (newest_name is None or found.name > newest_name):
            newest, newest_name = found.loaded, found.name
    run = _run_description(path, newest)
    history = [] if newest is None else history_of(newest.state)
    stored = None if newest is None else newest.environment
    present = _present_environment(stored or {})
    compared = {name: value for name, value in (stored or {}).items() if name not in CHOSEN}
    return Inspection(
        folder=folder,
        seed=seed if type(seed := run.get("seed")) is int else None,
        data=data if isinstance(data := run.get("data"), dict) else None,
        checkpoints=tuple(entries[name] for name in sorted(entries)),
        newest=None if newest_name is None else str(newest_name),
        stored_environment=stored,
        present_environment=present,
        differences=tuple(environment_differences(compared, present)) if stored else (),
        history=tuple(history if rows is None else history[max(0, len(history) - rows) :]),
        history_rows=len(history),
    )


def verify(path: Path) -> Verification:
    """Read every checkpoint of a run as a resume would.

    Raises:
        CheckpointError: There is no folder, no run in it, or it cannot be read.
    """
    folder = look(path)
    entries = {found.name: _entry(found, folder) for found in examine(path)}
    return Verification(folder, tuple(entries[name] for name in sorted(entries)))


def resume_plan(path: Path) -> ResumePlan:
    """Say what ``fit(resume=True)`` would do, as far as the folder decides it.

    Raises:
        CheckpointError: There is no folder, no run in it, or it cannot be read.
    """
    folder = look(path)
    passed_over: list[Entry] = []
    for found in examine(path):
        entry = _entry(found, folder)
        if found.loaded is not None:
            by, reason = _stop_of(found.loaded.state)
            return ResumePlan(folder, entry, tuple(passed_over), position_of(found.loaded.state), by, reason)
        passed_over.append(entry)
    return ResumePlan(folder, None, tuple(passed_over), None, None, None)


def look(path: Path) -> Folder:
    """Look at a folder without its checkpoints.

    Raises:
        CheckpointError: There is no folder, no run in it, or it cannot be read.
    """
    if not os.path.lexists(path):
        raise CheckpointError(f"{path} does not exist.")
    if not os.path.isdir(path):
        raise CheckpointError(f"{path} is no folder; give the folder of a run.")
    if not os.path.lexists(path / RUN) and not os.path.isdir(path / CHECKPOINTS):
        above = next((str(parent) for parent in (path.parent, path.parent.parent) if os.path.lexists(parent / RUN)), None)
        raise CheckpointError(f"{path} holds no run{'.' if above is None else f'; the run is {above}.'}")
    notes: list[str] = []
    with _noted(notes):
        best = Store(path).pointed("best")
    holder = holder_of(path)
    try:
        read_run(path)
    except CorruptCheckpointError as error:
        notes.append(f"{error} A run that goes on here keeps it aside and writes it anew.")
    rejected, aside = (tuple(leftovers(path, word)) for word in ("bad", "aside"))
    return Folder(str(path), holder.in_use, holder.text, best, rejected, aside, tuple(notes))


def history_of(state: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the rows of the history in a state; none where it has no history that this version reads."""
    history = History()
    try:
        history.load_state(state["callbacks"]["history"])
        rows = history.rows
    except (KeyError, TypeError, AttributeError, ValueError):
        return []
    plain = all(type(name) is str and type(value) in (int, float) for row in rows for name, value in row.items())
    return rows if plain else []


def position_of(state: Mapping[str, Any]) -> dict[str, int] | None:
    """Return where a state would go on, or None where it does not say so."""
    stored = state.get("progress")
    if not isinstance(stored, dict) or stored.keys() != set(Progress._fields):
        return None
    return stored if all(type(value) is int for value in stored.values()) else None


def _stop_of(state: Mapping[str, Any]) -> tuple[str | None, str | None]:
    match state.get("stop"):
        case {"by": str(by), "reason": str(reason)}:
            return by, reason
    return None, None


def _entry(found: Examined, folder: Folder) -> Entry:
    age = None if found.written is None else max(0.0, time.time() - found.written)
    # The path of the folder stands above all lines already.
    reason = None if found.reason is None else found.reason.replace(f"{Path(folder.path) / CHECKPOINTS}{os.sep}", "")
    is_best = folder.best == found.name.step
    return Entry(str(found.name), found.name.step, found.bytes, age, found.loaded is not None, reason, is_best)


def _run_description(path: Path, newest: Loaded | None) -> Mapping[str, Any]:
    """Return what a run was started with, from its own file or from a checkpoint, which says it too."""
    try:
        return read_run(path)
    except CorruptCheckpointError:
        identity = None if newest is None else newest.state.get("identity")
        return identity if isinstance(identity, dict) else {}


def _present_environment(stored: Mapping[str, Any]) -> dict[str, Any]:
    kinds = [device.type for device in available()]
    device = stored.get("device")
    present = fingerprint(device if device in kinds else kinds[0], "", False)
    return {name: value for name, value in present.items() if name not in CHOSEN}


@contextmanager
def _noted(notes: list[str]) -> Iterator[None]:
    """Take down what is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes += [str(warning.message) for warning in caught]
