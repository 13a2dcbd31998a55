"""What every fault uses: trials that are counted, folders, and the comparison with the undisturbed run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.faults.children import ended, kill_group, said, start
from tests.faults.job import Ending, Job, ending_of, train_to_end, unequal
from torchflow import Callback, Run, Stepped


class DieAt(Callback):
    """Kills the process after an update, before anything is saved."""

    def __init__(self, update: int) -> None:
        self._update = update

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        if event.progress.updates == self._update:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Trials:
    """The trials of one fault.

    Attributes:
        made: How many were made.
        failures: One line for each that was lost, wrong or hung.
        notes: What else is worth saying, such as how many kills there were.
    """

    made: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, place: str, *problems: str | None) -> bool:
        """Count a trial; it survived if it has no problem."""
        self.made += 1
        found = [problem for problem in problems if problem is not None]
        if found:
            self.failures.append(f"{place}: {'; '.join(found)}")
        return not found


@dataclass
class Campaign:
    """Where trials happen, how many, and from which seed.

    Attributes:
        folder: A temporary folder.
        seed: Every trial's randomness follows from it.
        scale: What all numbers of trials are multiplied with.
    """

    folder: Path
    seed: int = 0
    scale: float = 1.0
    _references: dict[tuple[bool, bool], tuple[Ending, float]] = field(default_factory=dict)
    _folders: int = 0

    def trials(self, number: int, least: int = 1) -> int:
        """Return how many trials to make."""
        return max(least, round(number * self.scale))

    def some(self, cases: Sequence[Any], least: int = 1) -> list[Any]:
        """Return all cases, or a part of them that is spread evenly where the scale is below 1."""
        wanted = min(len(cases), self.trials(len(cases), least))
        return [cases[number * len(cases) // wanted] for number in range(wanted)]

    def random(self, fault: str) -> random.Random:
        """Return the random numbers of a fault."""
        return random.Random(f"{self.seed}/{fault}")

    def fresh(self) -> Path:
        """Return a new empty folder."""
        self._folders += 1
        folder = self.folder / f"{os.getpid()}-{self._folders}"
        folder.mkdir()
        return folder

    def reference(self, *, foreign: bool = False, short: bool = False) -> Ending:
        """Return how the undisturbed run ends."""
        return self._undisturbed(foreign, short)[0]

    def seconds(self, *, foreign: bool = False) -> float:
        """Return how long the undisturbed run takes."""
        return self._undisturbed(foreign, short=False)[1]

    def _undisturbed(self, foreign: bool, short: bool) -> tuple[Ending, float]:
        if (foreign, short) not in self._references:
            folder, started = self.fresh(), time.monotonic()
            status = ended(start(lambda: train_to_end(Job(folder, foreign, short=short)), folder))
            if status:
                raise RuntimeError(f"the undisturbed run failed with status {status}:\n{said(folder)}")
            self._references[foreign, short] = (ending_of(folder), time.monotonic() - started)
        return self._references[foreign, short]

    def killed(self, update: int, job: Job | None = None) -> Job:
        """Return a job that was killed after an update, with two checkpoints or more."""
        job = job or Job(self.fresh(), background=False)
        dying = replace(job, extra=(DieAt(update),))
        status = ended(start(lambda: train_to_end(dying), job.folder))
        if status != -signal.SIGKILL:
            raise RuntimeError(f"the run was not killed: {status}: {said(job.folder)}")
        return job

    def copied(self, job: Job) -> Job:
        """Return a copy of a job with all that it left."""
        there = self.fresh()
        shutil.copytree(job.folder, there, dirs_exist_ok=True, symlinks=True)
        return replace(job, folder=there)

    def compared(self, job: Job) -> str | None:
        """Say how a finished job differs from the undisturbed one, or None."""
        try:
            return unequal(ending_of(job.folder), self.reference(foreign=job.foreign, short=job.short))
        except FileNotFoundError:
            return f"no result: {said(job.folder)}"

    def finished(self, job: Job) -> str | None:
        """Let a job go on to its end, and say how it differs from the undisturbed one, or None."""
        status = ended(start(lambda: train_to_end(job), job.folder))
        if status:
            return f"going on ended with status {status}: {said(job.folder)}"
        return self.compared(job)

    def serving(self, function: Callable[[Trials], object], within: float = 600.0) -> Trials:
        """Let one child make many trials in its own process, because they train there, or because a hook can't be taken back."""
        trials, folder = Trials(), self.fresh()

        def serve() -> None:
            function(trials)
            (folder / "trials").write_text(json.dumps([trials.made, trials.failures, trials.notes]))

        pid = start(serve, folder)
        status = ended(pid, within)
        if status != 0:
            kill_group(pid)
            return Trials(1, [f"the process that made the trials ended with status {status}: {said(folder)}"])
        return Trials(*json.loads((folder / "trials").read_text()))

    def finished_here(self, job: Job) -> str | None:
        """Let a job go on to its end in this process, and say how it differs from the undisturbed one, or None."""
        train_to_end(job)
        return self.compared(job)

    def done(self, folder: Path, survived: bool) -> None:
        """Remove the folder of a trial that survived; the others are kept for a person to look at."""
        if survived:
            shutil.rmtree(folder, ignore_errors=True)
