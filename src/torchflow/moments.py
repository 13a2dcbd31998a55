"""The moments of a run, told from its numbers alone: what the loop will report, and when it will save."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torchflow.intervals import Every, Progress


class Moment(NamedTuple):
    """One thing that will happen.

    Attributes:
        what: The name of the event, such as ``"Stepped"``; ``"Saved"`` is a checkpoint.
        progress: The progress that the event will carry, or that the checkpoint will hold.
    """

    what: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Timetable:
    """When a run does what.

    Attributes:
        batches: Batches of an epoch.
        size: Samples of a whole batch; 0 where nobody knows.
        samples: Samples of an epoch, with which the last batch may end early; 0 where nobody knows.
        accumulate: Batches of an update.
        epochs: The limit of epochs, or None.
        max_updates: The limit of updates, or None.
        validate: When validation is due; None without any.
        save: When a checkpoint is due; None without any.
    """

    batches: int
    size: int
    samples: int
    accumulate: int
    epochs: int | None
    max_updates: int | None
    validate: Every | None
    save: Every | None

    def moments(self) -> Iterator[Moment]:
        """Yield every moment of a run that nothing stops sooner, in order; without a limit, for ever."""
        progress, saved = Progress(), Progress()
        yield Moment("Started", progress)
        if self.save is not None:
            yield Moment("Saved", progress)
        while not self._over(progress):
            for moment in self._epoch(progress):
                yield moment
                saved = moment.progress if moment.what == "Saved" else saved
                progress = _after(moment)
        if self.save is not None and saved != progress:
            yield Moment("Saved", progress)
        yield Moment("Finished", progress)

    def _epoch(self, progress: Progress) -> Iterator[Moment]:
        yield Moment("EpochStarted", progress)
        for first in range(0, self.batches, self.accumulate):
            if self._over(progress):
                return
            before, end = progress, min(first + self.accumulate, self.batches)
            seen = min(end * self.size, self.samples) - min(first * self.size, self.samples)
            progress = Progress(before.epoch, end, before.updates + 1, before.samples + seen, before.validated)
            yield Moment("Stepped", progress)
            for moment in self._boundary(before, progress, end == self.batches):
                yield moment
                progress = _after(moment)

    def _boundary(self, before: Progress, progress: Progress, last: bool) -> Iterator[Moment]:
        """Yield what is due between two updates, in the loop's order."""
        reached = progress._replace(epoch=progress.epoch + 1) if last else progress
        if self.validate is not None and self.validate.reached(before, reached):
            progress = progress._replace(validated=progress.updates)
            yield Moment("Validated", progress)
        if last:
            yield Moment("EpochEnded", progress)
            progress = _after(Moment("EpochEnded", progress))
        if self.save is not None and self.save.reached(before, progress):
            yield Moment("Saved", progress)

    def _over(self, progress: Progress) -> bool:
        done = self.epochs is not None and progress.epoch >= self.epochs
        return done or (self.max_updates is not None and progress.updates >= self.max_updates)


def _after(moment: Moment) -> Progress:
    """Return the progress of the run after a moment: the end of an epoch carries the one before."""
    progress = moment.progress
    return progress._replace(epoch=progress.epoch + 1, batch=0) if moment.what == "EpochEnded" else progress
