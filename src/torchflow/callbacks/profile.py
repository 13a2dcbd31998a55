"""A look at a few updates with torch's profiler."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torchflow.arguments import flag, whole
from torchflow.arguments import path as checked_path
from torchflow.callbacks.files import refuse_folder
from torchflow.events import Failed, Finished, Started, Stepped
from torchflow.hooks import Callback

if TYPE_CHECKING:
    import torch.profiler

    from torchflow.run import Run


class Profile(Callback):
    """Runs a window of updates under ``torch.profiler`` and writes a trace, which Perfetto and chrome://tracing show.

    The window begins some updates after the start of this call, and lasts from the end of one update to the end of another, so
    that reading data, callbacks and checkpoints between them are seen too. One window is made in every call of ``fit``. The
    parameters are the same to the last bit; the updates in the window are slower. A group of compiled updates counts as one.

    Args:
        path: The trace file, JSON; a name that ends in ``.gz`` is compressed. An older one is written over.
        after: Updates before the window, so that what happens once is over.
        updates: Updates in the window.
        memory: Whether allocations are recorded.
        shapes: Whether the shapes of arguments are recorded.
        stacks: Whether the lines of Python are recorded.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: ``after`` or ``updates`` is below 1, or ``path`` no path.
    """

    writes = "path"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        after: int = 10,
        updates: int = 5,
        memory: bool = False,
        shapes: bool = False,
        stacks: bool = False,
    ) -> None:
        self.path = checked_path("path", path)
        self.after, self.updates = whole("after", after), whole("updates", updates)
        self._options: dict[str, Any] = {
            "profile_memory": flag("memory", memory),
            "record_shapes": flag("shapes", shapes),
            "with_stack": flag("stacks", stacks),
        }
        self._seen = 0
        self._profiler: torch.profiler.profile | None = None

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse a folder in place of a file."""
        refuse_folder(self, self.path)

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Count from here."""
        self._seen = 0

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Open and close the window."""
        self._seen += 1
        if self._seen == self.after:
            from torch.profiler import profile  # noqa: PLC0415  (most runs are not profiled)

            self._profiler = profile(**self._options)
            self._profiler.start()
        elif self._profiler is not None and self._seen == self.after + self.updates:
            event.loss.item()  # waits for the device, so that its work is in the trace
            self._write()

    def on_exception(self, run: Run[Any, Any], event: Failed) -> None:
        """Write what was seen of the window."""
        self._write()

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Write what was seen of the window, where the run ended in it."""
        self._write()

    def _write(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is None:
            return
        profiler.stop()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.path))
