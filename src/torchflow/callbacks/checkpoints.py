"""Writing checkpoints while training: when, how many, and which one is the best."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torchflow import arguments, checkpoint, interruption
from torchflow.callbacks.history import history_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CheckpointError
from torchflow.events import Validated
from torchflow.hooks import Callback
from torchflow.intervals import Alarm, Every, Progress
from torchflow.keywords import explained
from torchflow.run import Run
from torchflow.saving import Resume, environment, refuse_unsettled, restore, run_description
from torchflow.types import State

_LOG = logging.getLogger("torchflow")


class Checkpoints(Callback):
    """Publishes the whole state of a run into a folder, always after every other callback has seen the update.

    The state before the first update is published first, the one at the end of the run last. A folder that was used
    before is never written over: without ``resume`` it is renamed to ``folder.1``.

    Args:
        folder: The run folder.
        every: When a checkpoint is due.
        keep: How many of the newest stay, at least 2, so that one bad file never ends a run.
        best: The full name of a validation metric, such as ``"valid/loss"``, whose best checkpoint stays as well.
        mode: ``"min"`` where a smaller metric is better, or ``"max"``.
        on_exception: Whether to publish at an exception too, where it came between two updates. One in the middle of an
            update leaves a half-done state, which is never written.
        background: Whether files are written by a thread while training goes on; the run then waits only for a copy of
            the state, which takes as much memory again. At most one save is in flight; the first and the last checkpoint
            of a run, exceptions and signals wait for it.
        on_error: What a failed save does, such as one on a full disk: ``"stop"`` raises its CheckpointError in the run,
            ``"warn"`` says so and goes on; older checkpoints stay valid either way.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: ``keep`` is below 2, ``mode`` unknown, or ``best`` without a slash.
    """

    @explained("Write the others by name: Checkpoints('runs/name', every=Every(epochs=1)).")
    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: Every | None = None,
        keep: int = 2,
        best: str | None = None,
        mode: Literal["min", "max"] = "min",
        on_exception: bool = True,
        background: bool = True,
        on_error: Literal["stop", "warn"] = "stop",
    ) -> None:
        self.folder = arguments.path("folder", folder)
        if every is not None and not isinstance(every, Every):
            raise ArgumentTypeError(f"every must be an interval such as Every(epochs=1), got {arguments.shown(every)}.")
        self.every = every or Every(epochs=1)
        self.keep = arguments.whole("keep", keep, minimum=2, hint="Two, so that one bad file never ends a run.")
        if best is not None and (not isinstance(best, str) or not all(best.partition("/"))):
            raise ArgumentValueError(f"best must be the full name of a metric such as 'valid/loss', got {arguments.shown(best)}.")
        self.best = best
        arguments.one_of("mode", mode, ("min", "max"))
        self.mode = mode
        self.save_on_exception = arguments.flag("on_exception", on_exception)
        self.background = arguments.flag("background", background)
        arguments.one_of("on_error", on_error, ("stop", "warn"))
        self.on_error = on_error
        self._save: checkpoint.BackgroundSave | None = None
        self._best_value: float | None = None
        self._best_step: int | None = None
        self._store: checkpoint.Store | None = None
        self._alarm = Alarm(self.every)
        self._published: tuple[Progress, str | None] | None = None

    @property
    def best_at(self) -> tuple[str, int] | None:
        """The metric whose best checkpoint stays, and the updates at its best value; None before there is one."""
        return None if self.best is None or self._best_step is None else (self.best, self._best_step)

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse a metric of a stream that the run does not have."""
        if self.best is not None and self.best.partition("/")[0] not in run.validations:
            raise ArgumentValueError(
                f"Checkpoints(best={self.best!r}) needs a validation named {self.best.partition('/')[0]!r}; this run has "
                f"{', '.join(map(repr, run.validations)) or 'none'}. Pass validation=... to fit."
            )

    def moved(self, folder: str | os.PathLike[str]) -> Checkpoints:
        """Return checkpoints of the same rules in another folder."""
        return Checkpoints(
            folder,
            every=self.every,
            keep=self.keep,
            best=self.best,
            mode=self.mode,
            on_exception=self.save_on_exception,
            background=self.background,
            on_error=self.on_error,
        )

    def reset(self) -> None:
        """Forget an earlier run."""
        self._best_value = self._best_step = self._published = None

    def open(self, run: Run[Any, Any], resume: Resume | None) -> None:
        """Take the folder, and with ``resume`` load its newest good checkpoint where there is one.

        Raises:
            CheckpointError: Another process is writing to the folder.
            MismatchError: The newest good checkpoint belongs to another run.
        """
        store = checkpoint.Store(self.folder)
        if resume is None and store.is_used():
            _LOG.warning("torchflow: %s was used before; it is now called %s.", self.folder, store.set_aside())
        store.open(run_description(run), compare=False)  # what is resumed is compared as a whole, with a better list
        self._store, self._save = store, checkpoint.BackgroundSave()
        try:
            if resume is not None and (loaded := store.load()) is not None:
                restore(run, loaded, resume)
                self._published = (run.progress, _stop_of(run))
        except BaseException:
            self.close()
            raise
        self._alarm = Alarm(self.every)

    def close(self) -> None:
        """Wait for the save in flight, and give the folder back."""
        store, save, self._store, self._save = self._store, self._save, None, None
        try:
            if save is not None:
                save.wait()
        except CheckpointError as error:
            _LOG.warning("torchflow: the last save failed: %s", error)
        finally:
            if store is not None:
                store.close()

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Judge the metric whose best checkpoint stays."""
        if self.best is None:
            return
        if self.best not in event.metrics:
            known = ", ".join(map(repr, event.metrics))
            raise ArgumentValueError(f"Checkpoints(best={self.best!r}) finds no such metric; there are {known}.")
        value = event.metrics[self.best]
        sign = 1.0 if self.mode == "min" else -1.0
        if not math.isnan(value) and (self._best_value is None or sign * value < sign * self._best_value):
            self._best_value, self._best_step = value, event.progress.updates

    def start(self, run: Run[Any, Any]) -> None:
        """Publish the state before the first update, so that the first weights are never lost."""
        if self._published is None:
            self._publish(run, wait=True)

    def boundary(self, run: Run[Any, Any]) -> None:
        """Publish where the interval has passed, where the metric is the best so far, or where a signal asks for it."""
        due = self._alarm.rings(run.previous, run.progress) or interruption.save_asked()
        if due or (self._best_step is not None and self._best_step == run.progress.updates):
            self._publish(run)

    def finish(self, run: Run[Any, Any]) -> None:
        """Publish the state at the end of the run."""
        self._publish(run, wait=True)

    def rescue(self, run: Run[Any, Any], error: BaseException) -> None:
        """Publish after an exception that left nothing half done; what goes wrong here is added to it as a note."""
        if not self.save_on_exception or self._store is None:
            return
        if not run.settled:
            error.add_note(
                f"torchflow: it came in the middle of an update, so nothing was saved; the last checkpoint is in {self.folder}."
            )
            return
        try:
            self._publish(run, wait=True)
        except Exception as failure:
            error.add_note(f"torchflow: saving after it failed too: {failure}")

    def _publish(self, run: Run[Any, Any], *, wait: bool = False) -> None:
        """Publish the present state once; with ``wait`` it is on the disk when this returns."""
        if self._store is None or self._save is None:
            return
        now, save = (run.progress, _stop_of(run)), self._save
        if now != self._published:
            refuse_unsettled(run)
            self._try(save.wait)  # what became of the one before says nothing of this one
            self._published = now
            self._try(lambda: save.save(run.state(), self._writer(run)))
        if wait or not self.background:
            self._try(save.wait)

    def _try(self, act: Callable[[], None]) -> None:
        """Do a part of a save, and act on its failure as ``on_error`` says."""
        try:
            act()
        except CheckpointError as error:
            self._published = None
            if self.on_error == "stop":
                raise
            _LOG.warning("torchflow: a save failed, and training goes on: %s", error)

    def _writer(self, run: Run[Any, Any]) -> Callable[[checkpoint.Encoded], None]:
        """Return what writes a copy of the present state, points to the best, and prunes; it asks the run for nothing."""
        store, step, best, surroundings = self._store, run.progress.updates, self._best_step, environment(run)
        rows = history_of(run).rows

        def write(copy: checkpoint.Encoded) -> None:
            assert store is not None
            store.publish(step, copy, environment=surroundings)
            store.write_history(rows)
            if best == step:
                store.point("best", step)
            store.prune(self.keep, () if best is None else (best,))

        return write

    def state(self) -> Mapping[str, State]:
        """Return the best value and its number of updates, where a best one is kept."""
        return {} if self.best is None else {"value": self._best_value, "step": self._best_step}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        if self.best is not None:
            self._best_value, self._best_step = state["value"], state["step"]


def _stop_of(run: Run[Any, Any]) -> str | None:
    return None if run.stop is None else run.stop[1].reason
