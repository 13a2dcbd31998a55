"""One line to a person who is somewhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

from torchflow.arguments import function, one_of, shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.events import EpochEnded, Failed, Finished, Started, Validated
from torchflow.hooks import Callback

if TYPE_CHECKING:
    from torchflow.run import Run

_LOG = logging.getLogger("torchflow")
MOMENTS = ("start", "validation", "epoch", "end", "failure")


class Notify(Callback):
    """Sends one line at chosen moments by a function of yours: a mail, a message in a chat, a line in a log.

    The run waits for the function. What it raises is a warning in the log by default: a network that is down is no reason to
    lose a run.

    Args:
        send: ``(line) -> anything``.
        at: The moments: ``"start"``, ``"validation"``, ``"epoch"``, ``"end"`` (the run ended complete) and ``"failure"``
            (an exception, or a signal that ends the run).
        on_error: What an error of ``send`` does: ``"warn"`` says so and goes on, ``"stop"`` raises it in the run.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: A moment is unknown, or there is none.
    """

    def __init__(
        self,
        send: Callable[[str], object],
        *,
        at: Collection[Literal["start", "validation", "epoch", "end", "failure"]] = ("end", "failure"),
        on_error: Literal["warn", "stop"] = "warn",
    ) -> None:
        self._send = function("send", send, hint="Write send=print, or a function of one line of text.")
        if isinstance(at, str) or not isinstance(at, Collection):
            raise ArgumentTypeError(f"at must be a list of moments such as ['end', 'failure'], got {shown(at)}.")
        if not at:
            raise ArgumentValueError(f"at must name a moment, one of {', '.join(map(repr, MOMENTS))}; it is empty.")
        self.at = frozenset(one_of("at", moment, MOMENTS) for moment in at)
        self.on_error = one_of("on_error", on_error, ("warn", "stop"))

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Say that the run starts, and from where."""
        updates = event.progress.updates
        self._tell("start", f"training starts{f' at update {updates}' if updates else ''}")

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Say what a validation measured."""
        self._tell("validation", f"update {event.progress.updates}: {_texts(event.metrics)}")

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> None:
        """Say what an epoch measured."""
        self._tell("epoch", f"epoch {event.progress.epoch + 1}: {_texts(event.metrics)}")

    def on_exception(self, run: Run[Any, Any], event: Failed) -> None:
        """Say what was raised; of a long message the first line."""
        said = (str(event.exception).strip().splitlines() or [""])[0]
        name = type(event.exception).__name__
        self._tell("failure", f"training failed at update {event.progress.updates}: {name}{f': {said}' if said else ''}")

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Say why the run ended."""
        if event.complete:
            self._tell("end", f"training ended at update {event.progress.updates}: {event.reason}")

    def _tell(self, moment: str, line: str) -> None:
        if moment not in self.at:
            return
        try:
            self._send(line)
        except Exception as error:
            if self.on_error == "stop":
                raise
            _LOG.warning("torchflow: Notify could not send %r (%s: %s); the run goes on.", line, type(error).__name__, error)


def _texts(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
