"""The history as a file that grows while the run does."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchflow.arguments import path as checked_path
from torchflow.callbacks.files import refuse_folder, set_aside
from torchflow.callbacks.history import history_of
from torchflow.events import EpochStarted, Failed, Finished, Started, Validated
from torchflow.hooks import Callback

if TYPE_CHECKING:
    from torchflow.run import Run


class CSVLog(Callback):
    """Keeps the history of a run in a CSV file, one row for every epoch and every validation in the middle of one.

    The columns are those of :meth:`torchflow.History.to_csv`. Rows are appended when the next epoch starts, at a validation and at
    the end; a new column has the file written anew. A resumed run starts from the history in its checkpoint, so that its file is
    the one that an undisturbed run would have written. A fresh run renames an older file to ``name.1``.

    Args:
        path: The file; missing folders are made.

    Raises:
        ArgumentTypeError, ArgumentValueError: ``path`` is no path.
    """

    writes = "path"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = checked_path("path", path)
        self._columns: tuple[str, ...] = ()
        self._written = 0

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse a folder in place of a file."""
        refuse_folder(self, self.path)

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Write the rows that a checkpoint held; of a fresh run there are none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if run.fresh:
            set_aside(self.path)
        else:
            self.path.unlink(missing_ok=True)  # rows that came after the checkpoint are made again
        self._columns, self._written = (), 0
        self._append(run, event.progress.updates + 1)

    def on_epoch_start(self, run: Run[Any, Any], event: EpochStarted) -> None:
        """Append the row of the epoch that has ended: only now has the history heard of it from every callback."""
        self._append(run, event.progress.updates + 1)

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Append earlier rows; that of this validation may still grow."""
        self._append(run, event.progress.updates)

    def on_exception(self, run: Run[Any, Any], event: Failed) -> None:
        """Append what is left."""
        self._append(run, event.progress.updates + 1)

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Append what is left."""
        self._append(run, event.progress.updates + 1)

    def _append(self, run: Run[Any, Any], updates: int) -> None:
        """Write the rows of fewer updates that are not there yet."""
        history = history_of(run)
        if len(history) == self._written:
            return
        rows = [row for row in history.rows if row["updates"] < updates]
        columns = ("epoch", "updates", *history.names)
        if columns == self._columns:
            self._write(self.path, rows[self._written :], "a")
        elif rows:
            # A reader finds the old file or the new one, never half of it.
            self._columns, beside = columns, self.path.with_name(f"{self.path.name}.part")
            self._write(beside, rows, "w")
            os.replace(beside, self.path)
        self._written = len(rows)

    def _write(self, path: Path, rows: Sequence[dict[str, float]], mode: str) -> None:
        with path.open(mode, encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)
