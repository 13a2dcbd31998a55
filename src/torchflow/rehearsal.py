"""A rehearsal: everything that a run does, once, on copies and in a temporary folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from torchflow.blueprint import Blueprint
from torchflow.callbacks.checkpoints import Checkpoints
from torchflow.callbacks.files import writing_elsewhere, written_by
from torchflow.data.excerpts import Excerpt
from torchflow.errors import CheckpointError
from torchflow.evaluation import evaluate_batches
from torchflow.events import Stepped, Validated
from torchflow.hooks import Reactions
from torchflow.intervals import Alarm, Every
from torchflow.limits import Limits
from torchflow.loop import events
from torchflow.options import FitOptions, refuse_unknown
from torchflow.run import Run
from torchflow.saving import Resume
from torchflow.state import first_difference, kept_leaves
from torchflow.text_table import counted, in_bytes, in_seconds
from torchflow.trials import trial_of_fit

Trial: TypeAlias = Callable[[], AbstractContextManager[tuple[Run[Any, Any], Limits]]]
"""What gives a fresh run on copies."""


@dataclass(frozen=True, slots=True)
class Act:
    """One part of a rehearsal.

    Attributes:
        name: What was done.
        seconds: How long it took.
        found: What there is to say of it; empty where it failed.
        error: What was raised, or None.
    """

    name: str
    seconds: float
    found: str
    error: Exception | None


@dataclass(frozen=True, slots=True, repr=False)
class Rehearsal:
    """What :meth:`torchflow.Trainer.rehearse` returns; its ``repr`` is a line for each act.

    Attributes:
        acts: What was tried, in order.
    """

    acts: tuple[Act, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(act.error is None for act in self.acts)

    @property
    def errors(self) -> tuple[Exception, ...]:
        """What failed, in order."""
        return tuple(act.error for act in self.acts if act.error is not None)

    def raise_for_failure(self) -> None:
        """Raise the first error, where there is one."""
        for error in self.errors:
            raise error

    def __repr__(self) -> str:
        lines = []
        for act in self.acts:
            said = act.found if act.error is None else f"{type(act.error).__name__}: {act.error}"
            lines.append(f"{'ok  ' if act.error is None else 'FAIL'}  {act.name} ({in_seconds(act.seconds)}): {said}")
        return "\n".join(lines)


def rehearse(blueprint: Blueprint[Any, Any], model: Any, train: Any, options: Mapping[str, Any]) -> Rehearsal:
    """Go through the acts of the run that ``fit`` would make with these arguments; see :meth:`torchflow.Trainer.rehearse`."""
    refuse_unknown("rehearse", options, FitOptions)
    acts: list[Act] = []
    checkpoints = blueprint.checkpoints
    trial = partial(trial_of_fit, "rehearse", blueprint, model, train, options)
    with tempfile.TemporaryDirectory(prefix="torchflow-rehearsal-") as folder:
        stage = _Stage(acts, trial, checkpoints, Path(folder) / "run")
        state = stage.train()
        if state is not None:
            stage.load(state)
        elif acts[0].error is None:
            stage.validate()  # the training did not come so far
    if checkpoints is not None:
        stage.look(checkpoints.folder, checkpoints.folder, stage.size)
    for _, callback, path in written_by(blueprint.callbacks):
        stage.look(path, path.parent if callback.writes == "path" else path, 0)
    return Rehearsal(tuple(acts))


class _Noted:
    """Saves as a trainer's checkpoints do, and notes the state that was saved last: callbacks may change the run after it."""

    def __init__(self, rules: Checkpoints) -> None:
        self.start, self.boundary, self.rescue, self.close = rules.start, rules.boundary, rules.rescue, rules.close
        self.last: dict[str, Any] | None = None
        self._rules = rules

    def finish(self, run: Run[Any, Any]) -> None:
        """Publish the state at the end."""
        self._rules.finish(run)
        self.last = kept_leaves(run.state())


class _Stage:
    """Where the acts are played: each notes how it went.

    Args:
        acts: Where they are noted.
        trial: Gives a fresh run on copies.
        checkpoints: The trainer's own, or None.
        folder: A folder for a rehearsal's checkpoints.
    """

    def __init__(self, acts: list[Act], trial: Trial, checkpoints: Checkpoints | None, folder: Path) -> None:
        self._acts, self._trial, self._folder = acts, trial, folder
        self._rules = (checkpoints or Checkpoints(folder)).moved(folder)
        self.size = 0

    def train(self) -> dict[str, Any] | None:
        """Make two updates, a validation and the checkpoints; return the state at the end, or None where that failed."""
        with self._run() as run:
            if run is None:
                return None
            with self._act("two updates, a validation, a checkpoint") as say:
                saver = self._saved_by(run, None)
                happened = list(events(run, max_updates=2))
                updates = sum(isinstance(event, Stepped) for event in happened)
                say.append(counted(updates, "update"))
                if run.microbatch is not None:
                    say.append(f"at most {counted(run.microbatch, 'sample')} at once")
                say.append(f"loss {[e.loss.item() for e in happened if isinstance(e, Stepped)][-1]:.4g}")
                say += [
                    f"{name} {value:.4g}" for e in happened[-3:] if isinstance(e, Validated) for name, value in e.metrics.items()
                ]
                self.size = sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())
                return saver.last
        return None

    def validate(self) -> None:
        """Look at every validation by itself."""
        with self._trial() as (run, _):
            for name, batches in run.validations.items():
                with self._act(f"validation {name!r}") as say:
                    metrics = evaluate_batches(
                        run.step, run.model, Excerpt(batches, 1, 1), where=run.choices, key=0, microbatch=run.microbatch
                    )
                    say += [f"{metric} {value:.4g}" for metric, value in metrics.items()]

    def load(self, state: dict[str, Any]) -> None:
        """Load the last checkpoint into a fresh run, which must be in the state of the first one."""
        with self._trial() as (run, _), self._act("loading it into a fresh run") as say:
            self._saved_by(run, Resume()).close()
            different = first_difference(state, kept_leaves(run.state()))
            if different is not None:
                raise CheckpointError(
                    f"{different} is not what was saved once a fresh run has loaded it. What state() returns and load_state() takes must be "
                    "the same."
                )
            say.append(f"the same state, {in_bytes(self.size)} on the disk")

    def look(self, path: Path, folder: Path, size: int) -> None:
        """Look whether the trainer's own folders can be written, and have room for two checkpoints, without touching them."""
        with self._act(f"the {'folder' if path == folder else 'file'} {path}") as say:
            above = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
            if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
                raise CheckpointError(f"{above} is no folder that can be written. Choose another place than {path}.")
            free = shutil.disk_usage(above).free
            if free < 2 * size:
                raise CheckpointError(f"the disk of {above} has {in_bytes(free)} free, and checkpoints need {in_bytes(2 * size)}.")
            say.append(f"can be written, {in_bytes(free)} free")

    @contextmanager
    def _run(self) -> Iterator[Run[Any, Any] | None]:
        """Give a run of two updates, or None where it could not be built."""
        trial = None
        with self._act("building the run") as say:
            trial = self._trial()
            run, _ = trial.__enter__()
            say.append(f"{type(run.model).__name__}, {counted(sum(p.numel() for p in run.parameters), 'parameter')}")
        if trial is None or self._acts[-1].error is not None:
            yield None
            return
        try:
            size = run.choices.accumulate
            run.batches = Excerpt(run.batches, *((size, size) if run.batches.samples is not None else (2 * size, 0)))
            run.validations = {name: Excerpt(batches, 1, 1) for name, batches in run.validations.items()}
            run.validate, run.validation_alarm = Every(epochs=1), Alarm(Every(epochs=1))
            yield run
        finally:
            if isinstance(run.saver, _Noted):
                run.saver.close()
            trial.__exit__(None, None, None)

    def _saved_by(self, run: Run[Any, Any], resume: Resume | None) -> _Noted:
        """Let a run save by the trainer's rules into the rehearsal's folder, or go on from there."""
        rules = self._rules.moved(self._folder)
        rules.check(run)
        own = writing_elsewhere(run.callbacks, lambda name, _, path: self._folder.with_name("written") / name / path.name)
        run.callbacks = {**own, "checkpoints": rules}
        run.reactions = Reactions(run.callbacks)
        rules.open(run, resume)
        run.saver = saver = _Noted(rules)
        return saver

    @contextmanager
    def _act(self, name: str) -> Iterator[list[str]]:
        """Note how a part went, and what it took."""
        said: list[str] = []
        error, began = None, time.perf_counter()
        try:
            yield said
        except Exception as raised:
            error = raised
        self._acts.append(Act(name, time.perf_counter() - began, ", ".join(said), error))
