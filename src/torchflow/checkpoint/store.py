"""The store: the folder of one run, its checkpoints and their life.

::

    run/
      run.json      what the run was started with
      lock          the lease of the process that writes
      best.json     pointers, replaced in one piece; hints only
      checkpoints/
        step-000000120/       immutable once visible
        step-000000120-r1/    the same step saved again, with another content
        .tmp-.../             being written or removed; swept by the next holder of the lease
        .bad-.../             rejected, kept for a person to look at
        .aside-.../           later steps that an explicitly chosen earlier one has overtaken

A step that is saved again with another content (the end of a fit, say, at the update of the last regular save) gets
the next *revision*: a second folder beside the first, which wins from the moment it is visible. So there is no moment
without a valid checkpoint of the step; the earlier revision goes at the next :meth:`Store.prune`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from torchflow.arguments import whole
from torchflow.checkpoint.files import FILES, TEMPORARY, FileSystem, discard, refusals
from torchflow.checkpoint.format import Encoded
from torchflow.checkpoint.lease import Lease
from torchflow.checkpoint.reading import Loaded
from torchflow.checkpoint.run_file import keep_run, read_pointer, write_history, write_pointer
from torchflow.checkpoint.shelf import Shelf
from torchflow.errors import CheckpointError
from torchflow.types import State

CHECKPOINTS = "checkpoints"
LOCK = "lock"


class Store:
    """The checkpoints of one run; constructing it touches nothing on the disk.

    Reading needs no lease. Everything that writes needs :meth:`open` first; ``with store:`` gives the
    lease back at its end.

    Args:
        folder: The folder of the run.
        files: The disk.
    """

    def __init__(self, folder: Path, *, files: FileSystem = FILES) -> None:
        self.folder = folder
        self._files = files
        self._lease: Lease | None = None
        self._shelf = Shelf(folder / CHECKPOINTS, files)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def is_used(self) -> bool:
        """Say whether the folder holds anything beside a lock and unfinished temporary files.

        Raises:
            CheckpointError: Something other than a folder is there, or it cannot be read.
        """
        names: list[str] = []
        within: list[str] = []
        with refusals(f"{self.folder} is no readable folder", "; choose another path"), contextlib.suppress(FileNotFoundError):
            names = os.listdir(self.folder)
            within = os.listdir(self._shelf.folder) if CHECKPOINTS in names and self._shelf.folder.is_dir() else []
        lasting = [name for name in names if name not in (LOCK, CHECKPOINTS) and not name.startswith(TEMPORARY)]
        return bool(lasting) or any(not name.startswith(TEMPORARY) for name in within)

    def set_aside(self) -> Path:
        """Rename the folder to ``name.1``, or the first number that is free, and return the new path.

        Raises:
            CheckpointError: The run is in use, or the folder cannot be renamed.
        """
        self.close()
        folder = Path(os.path.abspath(self.folder))
        with refusals(f"{folder} cannot be set aside", "; choose another folder"):
            lease = Lease(folder / LOCK)
            try:
                number = 1
                while os.path.lexists(target := folder.with_name(f"{folder.name}.{number}")):
                    number += 1
                self._files.rename(folder, target)
            finally:
                lease.release()
            self._files.sync_folder(folder.parent)
        self._shelf = Shelf(self.folder / CHECKPOINTS, self._files)
        return target

    def open(self, run: Mapping[str, State], *, compare: bool = True) -> None:
        """Create the folder, take the lease, keep what the run was started with, and sweep what a killed run left.

        Args:
            run: What must not change during a run, without tensors: seed, plan, order algorithm. Written once; later
                it is compared with what is stored, and what is stored stays.
            compare: Whether a difference is refused here; a caller that compares whole states says more about it.

        Raises:
            CheckpointError: The run is in use by another process, or the disk refuses.
            MismatchError: The folder holds a run that was started with something else; nothing was changed.
            StateError: ``run`` is not in the state language.
        """
        if self._lease is not None:
            raise CheckpointError(f"{self.folder} is already open in this store; close it first.")
        try:
            with refusals(f"{self.folder} cannot be opened"):
                self._make_folders(self._shelf.folder)
                self._lease = Lease(self.folder / LOCK)
                keep_run(self._files, self.folder, run, compare=compare)
                for folder in (self.folder, self._shelf.folder):
                    for name in sorted(os.listdir(folder)):
                        if name.startswith(TEMPORARY):
                            discard(self._files, folder / name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lease back; a second time does nothing."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def publish(self, step: int, state: Mapping[str, State] | Encoded, *, environment: Mapping[str, State]) -> Path:
        """Save a state, and return the path of the checkpoint once it is safely on the disk.

        A step that is already there with the very same content is left as it is; with another content it gets the
        next revision, which wins. A kill at any moment leaves the old or the new one, whole.

        Args:
            step: The number of updates that the state has seen.
            state: The state tree, which is copied first and only read; or a copy that :func:`encode` made before.
            environment: The fingerprint (:func:`fingerprint`).

        Raises:
            StateError: A value that a checkpoint cannot hold, named by its path; nothing was written.
            CheckpointError: The lease is not held any more, or the disk refused: older checkpoints are untouched.
        """
        whole("step", step, minimum=0)
        self._held().check()
        return self._shelf.publish(step, state, environment)

    def steps(self) -> list[int]:
        """Return the steps that are published, ascending, by their names alone."""
        return sorted({name.step for name in self._shelf.names()})

    def load(self, step: int | None = None) -> Loaded | None:
        """Read and verify a checkpoint.

        Args:
            step: The one to read. None: the newest one that is sound; every newer one is reported in a
                ``UserWarning`` and, if the lease is held, renamed to ``.bad-...``, never deleted.

        Returns:
            The checkpoint, or None if there is none at all.

        Raises:
            CorruptCheckpointError: The step that was asked for is not sound, or none is (and then none is renamed).
            CheckpointError: The step that was asked for is not there.
        """
        if step is None:
            return self._shelf.load_newest(may_rename=self._lease is not None)
        return self._shelf.load(whole("step", step, minimum=0))

    def prune(self, keep: int, protect: Collection[int] = ()) -> None:
        """Remove old checkpoints: the newest ``keep`` steps stay, and all of ``protect``.

        Whatever is asked for, two verified checkpoints remain where there are two. Each one that goes vanishes by one
        rename before its files are removed.

        Raises:
            CheckpointError: The lease is not held, or the disk refused.
        """
        whole("keep", keep)
        self._held().check()
        self._shelf.prune(keep, protect)

    def point(self, name: str, step: int) -> None:
        """Let ``<name>.json`` point at a step, replacing what it pointed at in one piece.

        Raises:
            ArgumentValueError: The name is no short word in lower case.
            CheckpointError: The lease is not held, or the disk refused.
        """
        whole("step", step, minimum=0)
        self._held().check()
        with refusals(f"{self.folder}: cannot point {name} at step {step}"):
            write_pointer(self._files, self.folder, name, step)

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the rows of a run to ``history.jsonl``, for people and their tools; resuming reads the checkpoint's own copy.

        The file is replaced in one piece, so that it is never half-written and never ahead of a run that was resumed.

        Raises:
            CheckpointError: The lease is not held, or the disk refused.
        """
        self._held().check()
        with refusals(f"{self.folder}: cannot write its history"):
            write_history(self._files, self.folder, rows)

    def pointed(self, name: str) -> int | None:
        """Return the step that a pointer names, or None; a hint: the step may be gone."""
        return read_pointer(self.folder, name)

    def _make_folders(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folders(folder.parent)
            with contextlib.suppress(FileExistsError):  # another run that starts in this moment; the lease decides
                self._files.make_folder(folder)
            self._files.sync_folder(folder.parent)

    def _held(self) -> Lease:
        if self._lease is None:
            raise CheckpointError(f"{self.folder} is not open for writing; call open(...) first.")
        return self._lease
