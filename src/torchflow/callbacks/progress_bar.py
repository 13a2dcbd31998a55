"""How far a run is, for the person who waits for it."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TextIO

from torchflow.arguments import one_of, shown
from torchflow.errors import ArgumentTypeError
from torchflow.events import EpochEnded, Failed, Finished, Started, Stepped, Validated
from torchflow.hooks import Callback
from torchflow.intervals import Progress

if TYPE_CHECKING:
    from tqdm.std import tqdm

    from torchflow.run import Run

SECONDS_BETWEEN_DRAWINGS = 0.1


class ProgressBar(Callback):
    """Draws a bar in terminals and notebooks and prints one plain line an epoch elsewhere; then the reason of the end.

    An update costs one look at a clock. The loss is read from the device only for a drawing, at most ten times a second, so
    that the run never waits for the bar. A stream that can't be written to any longer silences it: the run goes on.

    Args:
        stream: Where to write; ``sys.stderr``, as it is when the run starts, by default.
        style: ``"bar"``, ``"lines"``, or ``"auto"``: by what the stream is.

    Raises:
        ArgumentTypeError: ``stream`` can't be written to.
        ArgumentValueError: ``style`` is none of the three.
    """

    def __init__(self, *, stream: TextIO | None = None, style: Literal["auto", "bar", "lines"] = "auto") -> None:
        if stream is not None and not callable(getattr(stream, "write", None)):
            raise ArgumentTypeError(f"stream must be an open text file such as sys.stdout, got {shown(stream)}.")
        self._given = stream
        self._style = one_of("style", style, ("auto", "bar", "lines"))
        self._stream: TextIO | None = None
        self._bar: tqdm[Any] | None = None
        self._due = 0.0
        self._epochs: int | None = None
        self._validated: dict[str, float] = {}

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Open the bar."""
        self._stream = self._given if self._given is not None else sys.stderr
        self._epochs = event.plan.epochs
        self._validated = {}
        self._close()
        if self._stream is not None and self._draws(self._stream):
            self._guarded(lambda: self._open(event))

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Draw, where a drawing is due."""
        if self._bar is None or time.monotonic() < self._due:
            return
        values = {"loss": event.loss.item(), **self._validated}
        self._draw(event.progress, values)

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Keep the values for the next drawing."""
        self._validated |= event.metrics

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> None:
        """Print the epoch's line, where there is no bar."""
        if self._bar is not None:
            self._validated |= event.metrics
        else:
            self._print("  ".join([self._title(event.progress), *_texts(event.metrics)]))

    def on_exception(self, run: Run[Any, Any], event: Failed) -> None:
        """Close the bar, so that a traceback starts on a line of its own."""
        self._close()

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Draw the end, close the bar and print why the run ended."""
        if self._bar is not None:
            self._draw(event.progress, self._validated)
        self._close()
        self._print(event.reason)
        self._stream = None

    def _open(self, event: Started) -> None:
        Bar = _bar_class(notebook=self._given is None and _in_notebook())  # noqa: N806
        self._bar = Bar(
            total=event.plan.updates,
            initial=event.progress.updates,
            desc=self._title(event.progress),
            unit=" updates",
            file=self._stream,
            dynamic_ncols=True,
            mininterval=0.0,
            miniters=1,
        )
        self._due = time.monotonic() + SECONDS_BETWEEN_DRAWINGS

    def _draw(self, progress: Progress, values: Mapping[str, float]) -> None:
        bar = self._bar
        assert bar is not None

        def draw() -> None:
            bar.set_description_str(self._title(progress), refresh=False)
            bar.set_postfix_str("  ".join(_texts(values)), refresh=False)
            bar.update(progress.updates - bar.n)

        self._guarded(draw)
        self._due = time.monotonic() + SECONDS_BETWEEN_DRAWINGS

    def _close(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            self._guarded(bar.close)

    def _print(self, line: str) -> None:
        stream = self._stream
        if stream is not None:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            text = line.encode(encoding, "backslashreplace").decode(encoding)
            self._guarded(lambda: print(text, file=stream, flush=True))

    def _guarded(self, write: Any) -> None:
        try:
            write()
        except (OSError, ValueError):  # a terminal that hung up, a closed file: no reason to lose a run
            self._stream = self._bar = None

    def _draws(self, stream: TextIO) -> bool:
        if self._style != "auto":
            return self._style == "bar"
        try:
            return stream.isatty() or (self._given is None and _in_notebook())
        except (AttributeError, ValueError):  # a bare writer, or a closed file
            return False

    def _title(self, progress: Progress) -> str:
        # Once an epoch has ended, progress is at the beginning of the next; a run that is over must not name that one.
        number = max(1, progress.epoch + (progress.batch > 0))
        return f"epoch {number}" + (f"/{self._epochs}" if self._epochs is not None else "")


def _texts(values: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in values.items()]


def _in_notebook() -> bool:
    """Say whether output goes to a notebook; nothing is imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def _bar_class(*, notebook: bool) -> type[tqdm[Any]]:
    module = importlib.import_module("tqdm.auto" if notebook else "tqdm.std")
    # Without the monitor there is no thread beside the training: the run alone redraws the bar.
    return type("Bar", (module.tqdm,), {"monitor_interval": 0})
