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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from torch import Tensor

from torchflow.intervals import Progress


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
        step: Whose gradients they are, where the Trainer has several steps: each has its own moment within an update.
    """

    progress: Progress
    norm: Tensor | None
    step: str | None = None


class Stepped(NamedTuple):
    """An update is finished; with ``compile=Updates(k)``, all updates of a group are.

    Attributes:
        progress: The progress after it.
        loss: Its loss, shape (), on the device, detached; nobody writes to it again. Reading it waits for the device. Of a
            group, the loss of its last update.
        metrics: Its metrics: means over the update's samples, shape (), on the device.
        count: The samples (or tokens) that the loss is the mean of. Of a group, those of its last update.
        learning_rates: The learning rate that the update used, by optimizer name.
        skipped: How many updates were not finite and were dropped: 0 or 1, of a group any number.
        group: The losses of every update of a group, shape (updates,); None where the event is of one update.
        group_counts: The counts of every update of a group, shape (updates,); None where each is ``count``.
    """

    progress: Progress
    loss: Tensor
    metrics: Mapping[str, Tensor]
    count: int | Tensor  # type: ignore[assignment]  # over the method that every tuple has: the field's word is "count"
    learning_rates: Mapping[str, float]
    skipped: int = 0
    group: Tensor | None = None
    group_counts: Tensor | None = None

    @property
    def losses(self) -> Tensor:
        """The loss of every update that this event reports, in their order, shape (updates,)."""
        return self.loss.reshape(1) if self.group is None else self.group

    @property
    def total_count(self) -> int | Tensor:
        """The counts of all updates that this event reports, together."""
        if self.group_counts is not None:
            return self.group_counts.sum()
        return self.count if self.group is None else self.count * len(self.group)


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
