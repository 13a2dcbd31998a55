"""Saving while training goes on: a copy of the state now, the files by a thread, at most one save in flight."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping

from torchflow.checkpoint.format import Encoded, encode
from torchflow.errors import CheckpointError
from torchflow.types import State


class BackgroundSave:
    """Copies states, and writes each copy by a thread of its own.

    The caller waits for the copy alone: into memory that the last save used, when that is done. The thread is no daemon,
    so that an interpreter that exits waits for it. What goes wrong in it is raised by the next :meth:`save` or :meth:`wait`.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._copy: Encoded | None = None

    def save(self, state: Mapping[str, State], write: Callable[[Encoded], None]) -> None:
        """Copy a state and let a thread write it; an earlier save is waited for first.

        Args:
            state: The state tree; only read, and free to change when this returns.
            write: Writes the copy.

        Raises:
            CheckpointError: The earlier save failed.
            StateError: The state holds something that a checkpoint cannot hold; nothing was started.
        """
        self.wait()
        copy = self._copy = encode(state, into=None if self._copy is None else self._copy.tensors)
        self._thread = threading.Thread(target=self._run, args=(write, copy), name="torchflow-save")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save in flight.

        Raises:
            CheckpointError: It failed; raised once.
        """
        if self._thread is not None:
            with contextlib.suppress(RuntimeError):  # a second SIGINT came before it was started: nothing is being written
                self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise (
                error if isinstance(error, CheckpointError) else CheckpointError(f"saving in the background failed: {error!r}")
            ) from error

    def _run(self, write: Callable[[Encoded], None], copy: Encoded) -> None:
        try:
            write(copy)
        except BaseException as error:
            self._error = error
