"""What a process of a verification does: make the job again, train it while writing everything down, and die where told."""

from __future__ import annotations

import contextlib
import copy
import faulthandler
import os
import signal as signals
import sys
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torchflow.arguments import shown
from torchflow.callbacks.checkpoints import Checkpoints
from torchflow.callbacks.early_stopping import EarlyStopping
from torchflow.errors import ArgumentValueError
from torchflow.events import Started, Stepped
from torchflow.hooks import Callback
from torchflow.intervals import Every
from torchflow.run import Run
from torchflow.schedule import Schedule
from torchflow.testing.leaves import leaves
from torchflow.testing.places import Job, Place, made_at, module_of
from torchflow.testing.recording import Pen, WatchedBatches, values_after, values_at_end
from torchflow.trainer import Trainer, blueprint_of, trainer_of

INSIDE = "TORCHFLOW_VERIFYING"
"""The environment variable that says: this process was started by a verification."""
RECORDER = "torchflow.testing"
UNDISTURBED = ("batches", "loss", "metrics", "model", "optimizers", "schedulers")
"""What observers may not change, and all that is written down where they are compared."""


@dataclass(frozen=True)
class Assignment:
    """What one process is told, in plain values.

    Attributes:
        job: Where the job function is.
        record: The file to write to.
        runs: The run folder.
        every: The checkpoints' interval as fields of :class:`torchflow.Every`; None keeps the job's own.
        resume: Whether to go on with what is in the run folder.
        kill: The update to die at; None for never.
        middle: Whether to die in the middle of that update, and not after it.
        signal: The name of the signal.
        leave_out: The observers to take away: None for none, an empty list for all.
        observers: Whether observers are compared: then only what they may not change is written down.
    """

    job: Place
    record: str
    runs: str
    every: dict[str, Any] | None = None
    resume: bool = False
    kill: int | None = None
    middle: bool = False
    signal: str = "SIGKILL"
    leave_out: list[str] | None = None
    observers: bool = False

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self)


class Recorder(Callback):
    """Writes down every update after all of the user's callbacks have seen it, and kills the process where that is due.

    Args:
        pen: What writes.
        assignment: Where to die.
    """

    def __init__(self, pen: Pen, assignment: Assignment) -> None:
        self._pen, self._assignment = pen, assignment
        self.run: Run[Any, Any] | None = None

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Begin to watch."""
        self.run = run
        run.batches = WatchedBatches(run.batches)
        self._pen.write_values(leaves(run.state()["model"], "model"), started=event.progress.updates)
        if self._assignment.middle:
            first = next(iter(run.optimizers.values()))
            first.register_step_post_hook(lambda *_: self._die_if_due(run.progress.updates + 1, "in the middle of"))

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Write down an update."""
        roots = UNDISTURBED if self._assignment.observers else None
        self._pen.write_values(values_after(run, event, roots), update=event.progress.updates)
        self._die_if_due(event.progress.updates, "after")  # no saver has seen it yet; an update that was skipped has no middle

    def end(self, reason: str) -> None:
        """Write down how the run ended."""
        assert self.run is not None
        values = () if self._assignment.observers else values_at_end(self.run, reason)
        self._pen.write_values(values, ended=reason, stopped=self.run.stop is not None)

    def _die_if_due(self, update: int, when: str) -> None:
        kill, name = self._assignment.kill, self._assignment.signal
        if kill is not None and update >= kill:
            for thread in threading.enumerate():
                if thread.name == "torchflow-save":  # else a short job would be killed before its first checkpoint is written
                    thread.join()
            self._assignment = replace(self._assignment, kill=None)  # a signal that lets the run go on comes once
            self._pen.write(killed=f"killed {when} update {update} ({name})")
            os.kill(os.getpid(), signals.Signals[name])


def carry_out(assignment: Assignment) -> None:
    """Train the job as assigned.

    Raises:
        TorchflowError: Whatever the job raises, and where an observer that is to be left out is not there.
    """
    job = made_at(assignment.job)
    fit = dict(job.fit)
    with contextlib.closing(Pen(Path(assignment.record))) as pen:
        recorder = Recorder(pen, assignment)
        trainer = watched(job.trainer, recorder, assignment)
        if assignment.leave_out is not None:
            trainer, left_out = _leave_out(trainer, fit, job, assignment.leave_out)
            pen.write(left_out=sorted(left_out))
        recorder.end(trainer.fit(job.model, job.train, **fit, resume=assignment.resume).reason)


def watched(trainer: Trainer[Any, Any], recorder: Recorder, assignment: Assignment) -> Trainer[Any, Any]:
    """Return a Trainer that differs in two things: a recorder comes after the user's callbacks, and the folder is another."""
    given = blueprint_of(trainer)
    own = checkpoints = given.checkpoints
    if own is not None or not assignment.observers:
        checkpoints = Checkpoints(assignment.runs) if own is None else copy.copy(own)
        checkpoints.folder = Path(assignment.runs)
        if assignment.every is not None:
            checkpoints.every = Every(**assignment.every)
    callbacks, begun = {**given.callbacks, RECORDER: recorder}, {**given.at_construction, RECORDER: {}}
    return trainer_of(replace(given, callbacks=callbacks, at_construction=begun, checkpoints=checkpoints))


def _leave_out(
    trainer: Trainer[Any, Any], fit: dict[str, Any], job: Job, names: Collection[str]
) -> tuple[Trainer[Any, Any], set[str]]:
    """Return a Trainer without some observers, and which; they are taken away from the arguments of its fit, too."""
    given, callbacks = blueprint_of(trainer), blueprint_of(job.trainer).callbacks
    here = {
        *callbacks,
        *(name for name, there in (("checkpoints", given.checkpoints), ("progress", given.progress)) if there),
        *({"validation"} if fit.get("validation") is not None else ()),
    }
    unknown = set(names) - here
    if unknown:
        raise ArgumentValueError(f"observers names {', '.join(map(repr, sorted(unknown)))}; this job has {shown(sorted(here))}.")
    chosen = set(names) or here - _consumed(given.scheduler, callbacks)
    if not chosen:
        raise ArgumentValueError(
            "nothing watches this job that could be left out: no callback, validation, checkpoints or progress."
        )
    if "validation" in chosen:
        fit["validation"] = None
    left = replace(
        given,
        callbacks={name: callback for name, callback in given.callbacks.items() if name not in chosen},
        checkpoints=None if "checkpoints" in chosen else given.checkpoints,
        progress=given.progress and "progress" not in chosen,
    )
    return trainer_of(left), chosen


def _consumed(scheduler: Any, callbacks: Mapping[str, Callback]) -> set[str]:
    """Return what cannot be left out without another run: it changes the run, or a schedule wants its values."""
    # Early stopping changes when a run ends and which weights are left then, and no update before.
    kept = {name: c for name, c in callbacks.items() if c.changes_run and not isinstance(c, EarlyStopping)}
    schedules = scheduler.values() if isinstance(scheduler, Mapping) else [scheduler]
    by_metric = any(isinstance(s, Schedule) and s.metric is not None and not s.metric.startswith("train/") for s in schedules)
    by_callback = any(type(c).on_validation_end is not Callback.on_validation_end for c in kept.values())
    return {*kept, *({"validation"} if by_metric or by_callback else ())}


def main(told: Mapping[str, Any]) -> None:
    """Do what a verification told this process."""
    faulthandler.enable()  # a process that hangs is asked with SIGABRT where
    assignment = Assignment(**{**told, "job": Place(**told["job"])})
    module = module_of(assignment.job)
    if not assignment.job.module:
        # A script stands for __main__ here too, so that worker processes find what it defines. multiprocessing does the same.
        sys.modules["__main__"], module.__spec__ = module, None
    carry_out(assignment)
