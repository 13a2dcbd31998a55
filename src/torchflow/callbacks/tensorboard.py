"""Curves in TensorBoard."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchflow.arguments import path as checked_path
from torchflow.callbacks.files import set_files_aside
from torchflow.callbacks.recurring import ChosenUpdates
from torchflow.errors import MissingExtraError
from torchflow.events import EpochEnded, Finished, Started, Stepped, Validated
from torchflow.intervals import Every, Progress

if TYPE_CHECKING:
    from torchflow.run import Run

_LOG = logging.getLogger("torchflow")
_EVENT_FILES = "events.out.tfevents.*"


class TensorBoard(ChosenUpdates):
    """Writes losses, metrics and learning rates to event files for TensorBoard (the extra ``tensorboard``).

    The step of every value is the number of updates. A resumed run tells TensorBoard to forget what lies after its checkpoint. A
    fresh run moves the event files of an earlier one to the folder ``name.1`` beside its own, and leaves all else where it is.
    Event files hold the time of every value, as TensorBoard wants it; nothing of it is in the history or in checkpoints.

    Args:
        folder: The folder of the event files.
        every: Which updates are written beside epochs and validations, such as ``Every(updates=100)``: reading their loss waits
            for the device. None writes none. Not in epochs or seconds.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: ``folder`` is no path, or ``every`` not in updates or samples.
        MissingExtraError: tensorboard is not installed.
    """

    writes = "folder"

    def __init__(self, folder: str | os.PathLike[str], *, every: Every | None = None) -> None:
        self.folder = checked_path("folder", folder)
        super().__init__(every)
        self._writer: Any = None  # torch's class, which can be imported where tensorboard is installed alone
        _writer_class()

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Open an event file."""
        super().on_fit_start(run, event)
        if run.fresh and (aside := set_files_aside(self.folder, _EVENT_FILES)) is not None:
            _LOG.warning("torchflow: %s was used before; its event files are now in %s.", self.folder, aside)
        forgotten = None if run.fresh else event.progress.updates + 1
        self._writer = _writer_class()(log_dir=str(self.folder), purge_step=forgotten)

    def write_update(self, event: Stepped, values: Mapping[str, float]) -> None:
        """Write the curves of an update."""
        self._write(
            event.progress, {name if name.startswith("learning_rate/") else f"step/{name}": value for name, value in values.items()}
        )

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Write what a validation measured."""
        self._write(event.progress, event.metrics)

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> None:
        """Write what the training data measured over the epoch; its validation is written already."""
        self._write(event.progress, {name: value for name, value in event.metrics.items() if name.startswith("train/")})

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Close the event file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _write(self, progress: Progress, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, progress.updates)


def _writer_class() -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "TensorBoard needs tensorboard, which is not installed: pip install 'torchflow-train[tensorboard]'. "
            "JSONLines and CSVLog do without."
        ) from error
