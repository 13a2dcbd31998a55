"""A log of events, one JSON object a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchflow.arguments import path as checked_path
from torchflow.callbacks.files import refuse_folder, set_aside
from torchflow.callbacks.recurring import ChosenUpdates
from torchflow.caller import warn_caller
from torchflow.events import EpochEnded, Finished, Started, Stepped, Validated
from torchflow.intervals import Every, Progress
from torchflow.types import State

if TYPE_CHECKING:
    from torchflow.run import Run


class JSONLines(ChosenUpdates):
    """Writes what happens in a run to a file, one JSON object a line, for programs that follow along.

    A line is ``{"event": "step", "epoch": …, "updates": …, "samples": …}`` with the loss, metrics and learning rates of an update,
    or ``"validation"`` or ``"epoch"`` with their metrics; a run that ends complete adds ``"end"`` with its reason. NaN and the
    infinities are null, and no line holds a time. How long the file is belongs to the checkpoint: a resumed run cuts off what was
    written after it, so that its file is the one that an undisturbed run would have written. A fresh run renames an older file
    to ``name.1``.

    Args:
        path: The file; missing folders are made.
        every: Which updates are written, such as ``Every(updates=100)``: reading their loss waits for the device. None writes
            none. Not in epochs or seconds.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: ``path`` is no path, or ``every`` not in updates or samples.
    """

    writes = "path"

    def __init__(self, path: str | os.PathLike[str], *, every: Every | None = None) -> None:
        self.path = checked_path("path", path)
        super().__init__(every)
        self._written: int | None = None  # until a run begins: one that was resumed at its first checkpoint has written nothing

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse a folder in place of a file."""
        refuse_folder(self, self.path)

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Open the file where the checkpoint left it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._written is None:
            set_aside(self.path)
            self._written = 0
        self.path.touch()
        there = self.path.stat().st_size
        if there < self._written:
            warn_caller(
                f"{self.path} holds {there} bytes, and the checkpoint knows of {self._written}: it was moved or cut. Lines are appended to it."
            )
            self._written = there
        os.truncate(self.path, self._written)

    def write_update(self, event: Stepped, values: Mapping[str, float]) -> None:
        """Write a line of an update."""
        self._write("step", event.progress, values)

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Write what a validation measured."""
        self._write("validation", event.progress, event.metrics)

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> None:
        """Write what an epoch measured."""
        self._write("epoch", event.progress, event.metrics)

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Write why the run ended; this line is no part of the checkpoint, after which the run may go on."""
        if event.complete:
            written = self._written
            self._write("end", event.progress, {"reason": event.reason})
            self._written = written

    def state(self) -> Mapping[str, State]:
        """Return how many bytes are written; None before a run."""
        return {"written": self._written}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self._written = state["written"]

    def _write(self, event: str, progress: Progress, values: Mapping[str, float | str]) -> None:
        where = {"event": event, "epoch": progress.epoch, "updates": progress.updates, "samples": progress.samples}
        plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
        line = (json.dumps({**where, **plain}, ensure_ascii=False, allow_nan=False) + "\n").encode()
        with self.path.open("ab") as file:
            file.write(line)
        self._written = (self._written or 0) + len(line)
