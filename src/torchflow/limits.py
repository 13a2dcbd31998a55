"""When a run has lasted long enough."""

from __future__ import annotations

import time
from collections.abc import Callable

from torchflow.arguments import real, whole_or_none
from torchflow.events import Plan
from torchflow.intervals import Progress


class Limits:
    """The duration of a run: epochs and updates counted from its very first one, seconds from this call.

    Args:
        epochs: Epochs in all, or None.
        max_updates: Updates in all, or None.
        max_seconds: Seconds of this call, or None; measured by a monotonic clock, and outside the promise of equal runs.
        clock: The clock, in seconds.

    Raises:
        ArgumentTypeError: A limit is no number.
        ArgumentValueError: A limit is below 1 (seconds: not above 0).
    """

    def __init__(
        self,
        epochs: int | None = None,
        max_updates: int | None = None,
        max_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epochs = whole_or_none("epochs", epochs)
        self.max_updates = whole_or_none("max_updates", max_updates)
        self.max_seconds = None if max_seconds is None else real("max_seconds", max_seconds, above=0.0)
        self._clock = clock
        self._began = clock()

    def reached(self, progress: Progress) -> str | None:
        """Return why the run is over, or None while it is not."""
        if self.epochs is not None and progress.epoch >= self.epochs:
            return f"all {self.epochs} epochs are done" if self.epochs > 1 else "the epoch is done"
        if self.max_updates is not None and progress.updates >= self.max_updates:
            return f"max_updates={self.max_updates} is reached"
        if self.max_seconds is not None and self._clock() - self._began >= self.max_seconds:
            return f"max_seconds={self.max_seconds:g} are over"
        return None


def plan_of(length: int | None, accumulate: int, limits: Limits | None) -> Plan:
    """Return what is known of the updates to come; ``length`` counts the batches of an epoch."""
    per_epoch = None if length is None else -(-length // accumulate)
    epochs, most = (None, None) if limits is None else (limits.epochs, limits.max_updates)
    by_epochs = None if epochs is None or per_epoch is None else epochs * per_epoch
    known = [number for number in (by_epochs, most) if number is not None]
    return Plan(per_epoch, epochs, min(known, default=None))
