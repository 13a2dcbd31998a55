"""What callbacks that act after every interval have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.events import EpochEnded, Started, Stepped
from torchflow.hooks import Callback, Stop
from torchflow.intervals import Alarm, Every, Progress

if TYPE_CHECKING:
    from torchflow.run import Run


def interval(name: str, every: Every | None, default: Every, *, seconds: bool = True, epochs: bool = True) -> Every:
    """Check an interval; None is the default.

    Args:
        name: What it belongs to, for messages.
        every: The interval.
        default: What None stands for.
        seconds: Whether it may be in seconds, which differ from run to run.
        epochs: Whether it may be in epochs.

    Raises:
        ArgumentTypeError: It is no interval.
        ArgumentValueError: It is in seconds or epochs, and may not be.
    """
    if every is None:
        return default
    if not isinstance(every, Every):
        raise ArgumentTypeError(f"{name} must be an interval such as Every(epochs=1), got {shown(every)}.")
    if every.seconds is not None and not seconds:
        raise ArgumentValueError(
            f"{name} can't be in seconds, which differ from run to run, got {every}. Write Every(updates=...) or Every(epochs=...)."
        )
    if every.epochs is not None and not epochs:
        raise ArgumentValueError(f"{name} chooses updates: epochs are always written; got {every}. Write Every(updates=100).")
    return every


class Recurring(Callback):
    """Acts after every interval: at the ends of epochs, or after the update that reaches it. Abstract.

    Args:
        every: The interval.
    """

    def __init__(self, every: Every) -> None:
        self.every = every
        self._alarm = Alarm(every)

    def act(self, run: Run[Any, Any], progress: Progress) -> Stop | None:
        """Do what is due.

        Args:
            run: The run.
            progress: The progress at the last update; at an epoch's end, ``progress.epoch`` is the epoch that ended.
        """
        raise NotImplementedError

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> Stop | None:
        """Start the clock of an interval in seconds."""
        self._alarm = Alarm(self.every)
        return None

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> Stop | None:
        """Act where the interval is one of updates, samples or seconds."""
        due = self.every.epochs is None and self._alarm.rings(run.previous, run.progress)
        return self.act(run, event.progress) if due else None

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> Stop | None:
        """Act where the interval is one of epochs."""
        return self.act(run, event.progress) if self.every.reached(event.progress, _after(event.progress)) else None


class ChosenUpdates(Recurring):
    """Writes the updates that an interval chooses, with what they measured. Abstract.

    Args:
        every: Which updates; None chooses none.
    """

    def __init__(self, every: Every | None) -> None:
        self._chooses = every is not None
        # Of no updates: an interval of epochs, whose ends say nothing of an update.
        super().__init__(interval(f"{type(self).__name__}(every=…)", every, Every(epochs=1), seconds=False, epochs=False))
        self._step: Stepped | None = None

    def write_update(self, event: Stepped, values: Mapping[str, float]) -> None:
        """Write an update.

        Args:
            event: The update.
            values: Its loss, metrics and learning rates (``"learning_rate/main"``); reading them has waited for the device.
        """
        raise NotImplementedError

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Write the update, where that is due."""
        self._step = event
        super().on_step_end(run, event)
        self._step = None

    def act(self, run: Run[Any, Any], progress: Progress) -> None:
        """Write the update at hand; at an epoch's end there is none."""
        event = self._step
        if event is None or not self._chooses:
            return
        rates = {f"learning_rate/{name}": rate for name, rate in event.learning_rates.items()}
        metrics = {name: float(value) for name, value in event.metrics.items()}
        self.write_update(event, {"loss": event.loss.item(), **metrics, **rates})


def _after(ended: Progress) -> Progress:
    """Return the progress with the epoch counted, and nothing else: what is due by updates was done after the update."""
    return ended._replace(epoch=ended.epoch + 1)
