"""The folder of published checkpoints: adding one, choosing one, removing old ones."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from pathlib import Path

from torchflow.checkpoint.files import TEMPORARY, FileSystem, discard
from torchflow.checkpoint.format import Encoded
from torchflow.checkpoint.manifest import CheckpointName, checkpoint_name
from torchflow.checkpoint.reading import Loaded, read_checkpoint, verify_checkpoint
from torchflow.checkpoint.writing import Draft, commit, make_draft
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
        try:
            found = (checkpoint_name(entry) for entry in os.listdir(self.folder))
            return sorted(name for name in found if name is not None)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be listed: {error.strerror or error}.") from error

    def publish(self, step: int, state: Mapping[str, State] | Encoded, environment: Mapping[str, State]) -> Path:
        """Save a state; see :meth:`Store.publish`."""
        names = self.names()
        earlier = [name for name in names if name.step == step]
        name = CheckpointName(step, earlier[-1].revision + 1 if earlier else 0)
        parent = max((name.step for name in names if name.step <= step), default=None)
        draft = make_draft(name, state, parent, environment)
        if earlier and self._is_same(draft, earlier[-1]):
            path = self.folder / str(earlier[-1])
            # Whoever wrote it may have been killed before this, so the promise is made good now.
            self._guarded(f"save step {step}", lambda: self._files.sync_folder(self.folder))
        else:
            path = commit(self.folder, draft, self._files)
            self._verified.add(name)
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
                removed.append(self._hide(name))
        # The new names reach the disk before any file goes: no cut of any kind leaves half a checkpoint under a valid name.
        self._guarded("remove checkpoints", lambda: self._files.sync_folder(self.folder))
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
                text += f" It is kept as {self._set_aside('bad', bad)}."
            warnings.warn(text, stacklevel=4)

    def _overtake(self, later: list[CheckpointName]) -> None:
        """Put steps aside that belong to a future which an earlier checkpoint was chosen instead of."""
        moved = [self._set_aside("aside", name) for name in later]
        if moved:
            listed = ", ".join(moved)
            warnings.warn(f"Later steps belong to a future that this run did not take; they are kept as {listed}.", stacklevel=4)

    def _set_aside(self, word: str, name: CheckpointName) -> str:
        aside = f".{word}-{name}-{secrets.token_hex(4)}"
        self._guarded(f"rename {name}", lambda: self._files.rename(self.folder / str(name), self.folder / aside))
        self._verified.discard(name)
        return aside

    def _hide(self, name: CheckpointName) -> Path:
        gone = self.folder / f"{TEMPORARY}{name}-{secrets.token_hex(8)}"
        self._guarded(f"remove {name}", lambda: self._files.rename(self.folder / str(name), gone))
        self._verified.discard(name)
        return gone

    def _is_same(self, draft: Draft, name: CheckpointName) -> bool:
        try:
            stored = verify_checkpoint(self.folder / str(name))
        except CorruptCheckpointError:
            return False
        return stored.files == draft.manifest.files and stored.environment == draft.manifest.environment

    def _is_sound(self, name: CheckpointName) -> bool:
        if name not in self._verified:
            try:
                verify_checkpoint(self.folder / str(name))
            except CorruptCheckpointError:
                return False
            self._verified.add(name)
        return True

    def _guarded(self, action: str, operation: Callable[[], None]) -> None:
        try:
            operation()
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot {action}: {error.strerror or error}.") from error
