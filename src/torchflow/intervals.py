"""How far a run is, and the one kind of interval in which everything recurs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from torchflow.arguments import real, whole
from torchflow.errors import ArgumentValueError
from torchflow.keywords import explained


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


@explained("Write Every(updates={}) or Every(epochs={}).")
@dataclass(frozen=True, slots=True)
class Every:
    """An interval, the same type everywhere: exactly one of its fields is given.

    Args:
        epochs: After every so many epochs.
        updates: After every so many updates.
        samples: After every so many samples: at the first update that reaches the next multiple.
        seconds: After so many seconds. Convenient, and outside the promise of equal runs.

    Raises:
        ArgumentTypeError: A number is given without a name, or is none.
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
