"""The control arm: builds that are broken on purpose. A fault that does not find its broken build proves nothing.

Each break is applied inside a forked child, which then makes some trials of the fault; at least one of them must fail.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torchflow.run
from tests.faults.campaign import Campaign, Trials
from tests.faults.children import ended, kill_group, said, start
from torchflow import arguments, saving, updating
from torchflow.checkpoint import files, reading, shards, shelf, writing
from torchflow.checkpoint.files import FileSystem, write_file
from torchflow.checkpoint.lease import Lease
from torchflow.checkpoint.manifest import MANIFEST, CheckpointName, Manifest
from torchflow.checkpoint.shelf import Shelf
from torchflow.data import calls, maps, sources
from torchflow.errors import CorruptCheckpointError
from torchflow.run import Run
from torchflow.update_randomness import UpdateRandomness

SCALES = {"F11": 1.0, "F12": 0.3, "F18": 1.0}
"""A tenth of the trials is enough for a control, but where only one kind of trial can find the break."""
SECONDS = 120.0
"""How long a broken build may take."""


def put(owner: Any, name: str, value: Any) -> None:
    """Replace something of the library, for the rest of this child's life."""
    assert hasattr(owner, name), f"{owner} has no {name}: the break is out of date"
    setattr(owner, name, value)


def publish_in_place() -> None:
    """Write straight into the final folder."""

    def written(
        folder: Path, step: int, state: Any, parent: int | None, environment: Any, *, revision: int, files: FileSystem
    ) -> Path:
        name = CheckpointName(step, revision)
        final = folder / str(name)
        files.make_folder(final)
        contents = writing.contents_of(state)
        entries = tuple(
            writing.entry_of(file, chunks, partial(write_file, files, final / file)) for file, chunks in contents.items()
        )
        manifest = Manifest(name, parent, writing.spelled(environment), entries)
        write_file(files, final / MANIFEST, [memoryview(manifest.text())])
        files.sync_folder(final)
        files.sync_folder(folder)
        return final

    put(shelf, "write_checkpoint", written)


def report_before_the_disk() -> None:
    """Report a checkpoint as saved although the disk refused."""

    def written(folder: Path, step: int, *given: Any, revision: int, **named: Any) -> Path:
        with contextlib.suppress(Exception):
            return writing.write_checkpoint(folder, step, *given, revision=revision, **named)
        return folder / str(CheckpointName(step, revision))

    put(shelf, "write_checkpoint", written)


def no_optimizer_state() -> None:
    """Leave the optimizer as it was created."""
    put(torchflow.run, "load_optimizer_state", lambda *given: None)


def forward_not_keyed() -> None:
    """Let forward passes draw on from wherever the generators are."""
    put(UpdateRandomness, "seed", lambda *given: None)


def samples_not_keyed() -> None:
    """Let a foreign dataset draw on from wherever the generators are."""

    def calls(function: Callable[[Any], Any], values: Iterable[Any], *rest: Any) -> list[Any]:
        return [function(value) for value in values]

    put(sources, "keyed_calls", calls)
    put(maps, "keyed_calls", calls)


def _changed_progress(change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    state = Run.state

    def changed(self: Run[Any, Any]) -> dict[str, Any]:
        found: dict[str, Any] = state(self)
        return {**found, "progress": {**found["progress"], **change(found["progress"])}}

    put(Run, "state", changed)


def one_batch_ahead() -> None:
    """Store the position of the batch after the next."""
    _changed_progress(lambda progress: {"batch": progress["batch"] + 1} if 0 < progress["batch"] < 20 else {})


def validated_dropped() -> None:
    """Forget that the validation which was due is done."""
    _changed_progress(lambda progress: {"validated": -1})


def not_synced() -> None:
    """Rename before the bytes are on the disk."""

    def written(disk: FileSystem, path: Path, chunks: Iterable[memoryview]) -> None:
        descriptor = disk.create(path)
        for chunk in chunks:
            disk.write(descriptor, chunk)
        disk.close(descriptor)

    put(writing, "write_file", written)


def no_hashes() -> None:
    """Believe every byte of a file that has the right length."""
    put(reading, "read_verified", lambda path, entry: files.read_file(path / entry.name, size=entry.bytes))


def unpickle() -> None:
    """Take tensors from a pickle where the file is one."""
    right = shards.read_shard

    def read(data: bytes, where: str) -> Any:
        with contextlib.suppress(pickle.UnpicklingError, EOFError, IndexError, ValueError, KeyError):
            pickle.loads(data)
        return right(data, where)

    put(reading, "read_shard", read)


def nothing_compared() -> None:
    """Load whatever is there."""
    put(saving, "run_differences", lambda *given: [])


def not_looked_at() -> None:
    """Step on losses and gradients that are not finite."""
    put(updating, "prepare", lambda run, parts: None)


def memory_taken_for_damage() -> None:
    """Take a checkpoint that there is no memory for as a bad one."""
    read = reading.read_checkpoint

    def reads(path: Path) -> reading.Loaded:
        try:
            return read(path)
        except MemoryError as error:
            raise CorruptCheckpointError(f"{path}: {error!r}") from error

    put(shelf, "read_checkpoint", reads)


def switches_not_looked_at() -> None:
    """Take whatever is given for True or False."""
    put(arguments, "flag", lambda name, value, **options: value)


@contextlib.contextmanager
def _nothing(*given: Any) -> Iterator[None]:
    yield


def random_state_lost() -> None:
    """Leave the process's random state as the run had it."""
    put(torchflow.run, "preserved", _nothing)


def not_guarded() -> None:
    """Let whatever a dataset raises go its way."""
    put(calls, "guarded", lambda place, index, function, *values: function(*values))


def no_lock() -> None:
    """Let everybody write."""
    put(Lease, "_lock", lambda *given: None)


def newest_by_time() -> None:
    """Take the checkpoint that was written last by the clock."""
    names = Shelf.names

    def by_time(self: Shelf) -> list[CheckpointName]:
        return sorted(names(self), key=lambda name: (self.folder / str(name)).stat().st_mtime)

    put(Shelf, "names", by_time)


BREAKS: dict[str, tuple[Callable[[], None], ...]] = {
    "F1": (no_optimizer_state, forward_not_keyed, validated_dropped),
    "F2": (publish_in_place,),
    "F3": (publish_in_place,),
    "F4": (samples_not_keyed,),
    "F7": (one_batch_ahead,),
    "F8": (not_synced, publish_in_place),
    "F9": (report_before_the_disk,),
    "F10": (report_before_the_disk,),
    "F11": (no_hashes,),
    "F12": (no_hashes,),
    "F13": (unpickle,),
    "F14": (nothing_compared,),
    "F15": (not_looked_at,),
    "F16": (random_state_lost,),
    "F17": (not_guarded,),
    "F18": (memory_taken_for_damage,),
    "F19": (no_lock,),
    "F22": (newest_by_time,),
    "F23": (switches_not_looked_at,),
}


@dataclass(frozen=True)
class Control:
    """What became of a broken build.

    Attributes:
        name: The break.
        caught: Whether the fault found it.
        first: The first failure, or what went wrong with the control itself.
    """

    name: str
    caught: bool
    first: str


def controls(campaign: Campaign, name: str, fault: Callable[[Campaign], Trials]) -> list[Control]:
    """Make some trials of a fault with each of its broken builds."""
    return [_control(campaign, fault, apply, SCALES.get(name, 0.1)) for apply in BREAKS.get(name, ())]


def _control(campaign: Campaign, fault: Callable[[Campaign], Trials], apply: Callable[[], None], scale: float) -> Control:
    folder = campaign.fresh()

    def broken() -> None:
        apply()
        trials = fault(Campaign(folder, campaign.seed, scale))
        (folder / "failures").write_text(json.dumps(trials.failures))

    began = time.monotonic()
    pid = start(broken, folder)
    status = ended(pid, within=SECONDS)
    kill_group(pid)  # a broken build may hang
    if status != 0 or not (folder / "failures").exists():
        return Control(apply.__name__, False, f"status {status} after {time.monotonic() - began:.0f} s: {said(folder)}")
    failures = json.loads((folder / "failures").read_text())
    campaign.done(folder, survived=True)
    return Control(apply.__name__, bool(failures), failures[0] if failures else "nothing failed")
