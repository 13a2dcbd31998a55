"""The folder of published checkpoints: adding one, choosing one, removing old ones."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path

from torchflow.caller import warn_caller
from torchflow.checkpoint.files import TEMPORARY, FileSystem, discard, refusals
from torchflow.checkpoint.format import Encoded, encode
from torchflow.checkpoint.manifest import CheckpointName, checkpoint_name
from torchflow.checkpoint.reading import Loaded, read_checkpoint, verify_checkpoint
from torchflow.checkpoint.writing import contents_of, entry_of, spelled, write_checkpoint
from torchflow.errors import CheckpointError, CorruptCheckpointError
from torchflow.types import State

SOUND = 2
"""How many verified checkpoints must remain after every removal."""


class Shelf:
    """Published checkpoints; whoever calls a method that writes holds the lease.

    Args:
        folder: Where the checkpoints' folders lie.
        files: The disk.
    """

    def __init__(self, folder: Path, files: FileSystem) -> None:
        self.folder = folder
        self._files = files
        self._verified: set[CheckpointName] = set()

    def names(self) -> list[CheckpointName]:
        """Return what is published, ascending, by name alone."""
        found: list[str] = []
        with refusals(f"{self.folder} cannot be listed"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = os.listdir(self.folder)
        return sorted(name for name in map(checkpoint_name, found) if name is not None)

    def publish(self, step: int, state: Mapping[str, State] | Encoded, environment: Mapping[str, State]) -> Path:
        """Save a state; see :meth:`Store.publish`."""
        names, state = self.names(), encode(state)
        earlier = [name for name in names if name.step == step]
        if earlier and self._is_same(earlier[-1], state, environment):
            path = self.folder / str(earlier[-1])
            with refusals(f"{path} was saved before, and cannot be synced"):  # its writer may have been killed before that
                self._files.sync_folder(self.folder)
        else:
            parent = max((name.step for name in names if name.step <= step), default=None)
            revision = earlier[-1].revision + 1 if earlier else 0
            path = write_checkpoint(self.folder, step, state, parent, environment, revision=revision, files=self._files)
            self._verified.add(CheckpointName(step, revision))
        self._overtake([name for name in names if name.step > step])
        return path

    def load(self, step: int) -> Loaded:
        """Read the last revision of a step."""
        names = self.names()
        wanted = [name for name in names if name.step == step]
        if not wanted:
            raise CheckpointError(f"{self.folder} has no step {step}; it has {sorted({name.step for name in names})}.")
        return self._accepted(wanted[-1])

    def load_newest(self, *, may_rename: bool) -> Loaded | None:
        """Read the newest checkpoint that is sound; see :meth:`Store.load`."""
        rejected: list[tuple[CheckpointName, CorruptCheckpointError]] = []
        for name in reversed(self.names()):
            try:
                loaded = self._accepted(name)
            except CorruptCheckpointError as error:
                rejected.append((name, error))
                continue
            self._report(rejected, name, may_rename=may_rename)
            return loaded
        if rejected:
            reasons = "\n".join(str(error) for _, error in rejected)
            raise CorruptCheckpointError(
                f"None of the {len(rejected)} checkpoints in {self.folder} is sound; restore a copy, or start anew "
                f"with resume=False, which sets the folder aside:\n{reasons}"
            ) from rejected[0][1]
        return None

    def prune(self, keep: int, protect: Collection[int]) -> None:
        """Remove old checkpoints; see :meth:`Store.prune`."""
        last = {name.step: name for name in self.names()}  # ascending, so the last revision of each step wins
        staying = {*sorted(last)[-keep:], *protect}
        kept = [name for name in last.values() if name.step in staying]
        going = [name for name in self.names() if name not in kept]
        if not going:
            return
        sound = sum(1 for _ in islice(filter(self._is_sound, reversed(kept)), SOUND))
        removed = []
        for name in reversed(going):
            if sound < SOUND and self._is_sound(name):
                sound += 1
            else:
                removed.append(self._renamed(name, TEMPORARY))
        # The new names reach the disk before any file goes: no cut of any kind leaves half a checkpoint under a valid name.
        with refusals(f"{self.folder}: cannot remove checkpoints"):
            self._files.sync_folder(self.folder)
        for path in removed:
            discard(self._files, path)

    def _accepted(self, name: CheckpointName) -> Loaded:
        loaded = read_checkpoint(self.folder / str(name))
        self._verified.add(name)
        return loaded

    def _report(
        self, rejected: list[tuple[CheckpointName, CorruptCheckpointError]], chosen: CheckpointName, *, may_rename: bool
    ) -> None:
        for bad, reason in rejected:
            text = f"{bad} is not sound and {chosen} is used instead: {reason}"
            if may_rename:
                text += f" It is kept as {self._renamed(bad, '.bad-').name}."
            warn_caller(text)

    def _overtake(self, later: list[CheckpointName]) -> None:
        """Put steps aside that belong to a future which an earlier checkpoint was chosen instead of."""
        if later:
            listed = ", ".join(self._renamed(name, ".aside-").name for name in later)
            warn_caller(f"Later steps belong to a future that this run did not take; they are kept as {listed}.")

    def _renamed(self, name: CheckpointName, prefix: str) -> Path:
        """Take a checkpoint out of the row by one rename, and return where it is."""
        gone = self.folder / f"{prefix}{name}-{secrets.token_hex(4)}"
        with refusals(f"{self.folder}: cannot rename {name}"):
            self._files.rename(self.folder / str(name), gone)
        self._verified.discard(name)
        return gone

    def _is_same(self, name: CheckpointName, state: Encoded, environment: Mapping[str, State]) -> bool:
        try:
            stored = verify_checkpoint(self.folder / str(name))
        except CorruptCheckpointError:
            return False
        entries = tuple(entry_of(file, chunks) for file, chunks in contents_of(state).items())
        return stored.files == entries and stored.environment == spelled(environment)

    def _is_sound(self, name: CheckpointName) -> bool:
        if name not in self._verified:
            try:
                verify_checkpoint(self.folder / str(name))
            except CorruptCheckpointError:
                return False
            self._verified.add(name)
        return True
