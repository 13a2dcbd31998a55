"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from torchflow.arguments import function
from torchflow.events import EpochEnded, EpochStarted, Finished, Started, Stepped, Validated
from torchflow.hooks import Callback

if TYPE_CHECKING:
    from torchflow.run import Run


class Times(NamedTuple):
    """Seconds of one epoch, or of the part of it that this call made.

    Attributes:
        epoch: The epoch, from 0.
        total: All of it.
        updates: Reading data and making updates, with what other callbacks and checkpoints took between them.
        validation: The passes over the validation data.
    """

    epoch: int
    total: float
    updates: float
    validation: float


class Timer(Callback):
    """Measures how long epochs take, and how much of that is updates and validation.

    Seconds differ from run to run, so they are neither in the history nor in checkpoints: a resumed run measures its own.
    On an accelerator an update has been asked for, not finished, when it is reported; what waits for the device gets the rest.

    Args:
        clock: A clock in seconds that only rises.

    Raises:
        ArgumentTypeError: ``clock`` is no function.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = function("clock", clock)
        self._rows: list[Times] = []
        self._mark = self._began = self._updates = self._validation = 0.0

    @property
    def rows(self) -> list[Times]:
        """The times of every epoch that has ended, oldest first."""
        return list(self._rows)

    @property
    def total(self) -> Times:
        """The sums over all epochs that have ended; ``epoch`` is their number."""
        return Times(len(self._rows), *(sum(row[part] for row in self._rows) for part in (1, 2, 3)))

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Begin anew."""
        self._rows = []
        self._begin()

    def on_epoch_start(self, run: Run[Any, Any], event: EpochStarted) -> None:
        """Start the epoch's clock."""
        self._begin()

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Count the time since the last event as the update's."""
        now = self._clock()
        self._updates += now - self._mark
        self._mark = now

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Count the time since the last event as the validation's."""
        now = self._clock()
        self._validation += now - self._mark
        self._mark = now

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> None:
        """Write the epoch's row."""
        self._rows.append(Times(event.progress.epoch, self._clock() - self._began, self._updates, self._validation))
        self._begin()

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Leave an epoch that has not ended without a row."""
        self._updates = self._validation = 0.0

    def _begin(self) -> None:
        self._mark = self._began = self._clock()
        self._updates = self._validation = 0.0
