"""The frozen facts that the loop reports, each at a moment when nothing is half done.

In the order of a run, with every event in its place::

    Started                                    before the first update, after a resume too
    while the run has not reached its end:
        EpochStarted                           before the first batch of an epoch
        for each update of the epoch:
            (Gradients)                        a callback's hook alone, never yielded
            Stepped                            the update is finished
            Validated                          where a validation is due
        EpochEnded                             the epoch is finished, its validation included
    Finished                                   always last; Failed comes before it where anything was raised
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from torch import Tensor

from torchflow.arguments import real, whole
from torchflow.errors import ArgumentValueError


class Progress(NamedTuple):
    """How far a run has come. It *is* the position in the data: no loader state exists beside it.

    Attributes:
        epoch: The epoch that is under way, from 0.
        batch: Batches of this epoch that finished updates have consumed.
        updates: Finished updates of the whole run.
        samples: Samples that finished updates have consumed, over the whole run.
        validated: The number of updates at the last finished validation, -1 before the first.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    samples: int = 0
    validated: int = -1


@dataclass(frozen=True, slots=True)
class Every:
    """An interval, the same type everywhere: exactly one of its fields is given.

    Args:
        epochs: After every so many epochs.
        updates: After every so many updates.
        samples: After every so many samples: at the first update that reaches the next multiple.
        seconds: After so many seconds. Convenient, and outside the promise of equal runs.

    Raises:
        ArgumentValueError: None or several of the fields are given, or one is below 1 (seconds: not above 0).
    """

    epochs: int | None = field(default=None, kw_only=True)
    updates: int | None = field(default=None, kw_only=True)
    samples: int | None = field(default=None, kw_only=True)
    seconds: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        given = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            found = ", ".join(f"{name}={value}" for name, value in given.items()) or "nothing"
            raise ArgumentValueError(
                f"Every takes exactly one of epochs, updates, samples or seconds, got {found}. Write Every(epochs=1)."
            )
        for name, value in given.items():
            if name == "seconds":
                real("Every(seconds=…)", value, above=0.0)
            else:
                whole(f"Every({name}=…)", value)

    def __str__(self) -> str:
        name, value = next((name, value) for name in self.__slots__ if (value := getattr(self, name)) is not None)
        return f"every {name[:-1]}" if value == 1 else f"every {str(value).removesuffix('.0')} {name}"

    def reached(self, before: Progress, now: Progress) -> bool:
        """Say whether a multiple of the interval lies after ``before`` and not after ``now``.

        No clock is asked: an interval in seconds is never reached by progress, only by an :class:`Alarm`.
        """
        if self.updates is not None:
            return now.updates // self.updates > before.updates // self.updates
        if self.samples is not None:
            return now.samples // self.samples > before.samples // self.samples
        if self.epochs is not None:
            return now.epoch // self.epochs > before.epoch // self.epochs
        return False


class Alarm:
    """Says at each safe point whether an interval has passed; the only reader of clocks for intervals.

    Args:
        every: The interval.
        clock: A monotonic clock in seconds.
    """

    def __init__(self, every: Every, clock: Callable[[], float] = time.monotonic) -> None:
        self.every = every
        self._clock = clock
        self._rang = clock()

    def rings(self, before: Progress, now: Progress) -> bool:
        """Say whether the interval has passed, between two progresses or since it last rang in seconds."""
        if self.every.seconds is None:
            return self.every.reached(before, now)
        if self._clock() - self._rang < self.every.seconds:
            return False
        self._rang = self._clock()
        return True


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run knows of the updates to come.

    Attributes:
        updates_per_epoch: Updates in one epoch; None for data without a length.
        epochs: The limit of epochs; None without one.
        updates: All updates of the run; None where neither limit nor length says.
    """

    updates_per_epoch: int | None
    epochs: int | None
    updates: int | None


@dataclass(frozen=True, slots=True)
class Started:
    """A run starts, or goes on after a resume.

    Attributes:
        progress: The progress that it starts from.
        plan: What is known of the updates to come.
    """

    progress: Progress
    plan: Plan


@dataclass(frozen=True, slots=True)
class EpochStarted:
    """An epoch is about to read its first batch.

    Attributes:
        progress: The progress at its start; ``progress.epoch`` is the epoch that begins.
    """

    progress: Progress


class Gradients(NamedTuple):
    """The gradients of an update are complete, unscaled and clipped; the optimizer has not stepped yet.

    Attributes:
        progress: The progress before this update.
        norm: The 2-norm of all gradients before clipping, shape (); None where ``clip_norm`` is not set.
    """

    progress: Progress
    norm: Tensor | None


@dataclass(frozen=True, slots=True)
class Stepped:
    """An update is finished.

    Attributes:
        progress: The progress after it.
        loss: Its loss, shape (), on the device, detached; nobody writes to it again. Reading it waits for the device.
        metrics: Its metrics: means over the update's samples, shape (), on the device.
        count: The samples (or tokens) that the loss is the mean of.
        learning_rates: The learning rate that the update used, by optimizer name.
        skipped: True where the update was not finite and was dropped.
    """

    progress: Progress
    loss: Tensor
    metrics: Mapping[str, Tensor]
    count: int | Tensor
    learning_rates: Mapping[str, float]
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Validated:
    """A validation pass is finished.

    Attributes:
        progress: The progress that was validated.
        metrics: Every value as a float, by its full name such as ``"valid/loss"``.
    """

    progress: Progress
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """An epoch is finished, its validation included. A stop in the middle of an epoch reports none.

    Attributes:
        progress: The progress at the last update of the epoch; ``progress.epoch`` is the epoch that ended.
        metrics: Train metrics over the epoch (``"train/loss"``) and those of the validation at its end, as floats.
    """

    progress: Progress
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failed:
    """Something was raised; KeyboardInterrupt and SystemExit included.

    Attributes:
        progress: The progress of the last finished update.
        exception: What was raised.
    """

    progress: Progress
    exception: BaseException


@dataclass(frozen=True, slots=True)
class Finished:
    """The run has ended.

    Attributes:
        progress: The progress at the end.
        reason: Why it ended, in one sentence.
        complete: True where the run reached its end or was stopped; False where an exception or a ``break`` left it.
    """

    progress: Progress
    reason: str
    complete: bool = True


Event: TypeAlias = Started | EpochStarted | Stepped | Validated | EpochEnded | Finished
"""What :func:`torchflow.events` yields. ``Gradients`` and ``Failed`` reach callbacks alone."""
