"""F16: a callback raises, in each of its hooks, whatever can be raised."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tests.faults.campaign import Campaign, Trials
from tests.faults.job import Job, leaves, network, run_job
from tests.faults.saves import folder_problem
from tests.laws.problems import LossSum
from torchflow import Callback, Run
from torchflow.errors import CallbackError, CheckpointError
from torchflow.hooks import HOOKS

PLACES = (*HOOKS, "state", "load_state")
RAISED: tuple[type[BaseException], ...] = (ValueError, StopIteration, MemoryError, KeyboardInterrupt, SystemExit)
NUMBERED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Raiser(Callback):
    """Raises in one hook, at its second call where it has one.

    Args:
        hook: The name of the hook, or "state".
        error: What to raise.
    """

    def __init__(self, hook: str, error: BaseException) -> None:
        self.error, self._calls, self._armed = error, 0, False
        self._last = 0 if hook in ("on_fit_start", "on_fit_end", "on_exception") else 1
        if hook == "on_exception":
            vars(self)["on_step_end"] = self._give_a_reason
        vars(self)[hook] = self._state if hook == "state" else self._raise

    def on_epoch_start(self, run: Run[Any, Any], event: object) -> None:
        self._armed = True  # state() is asked for at construction too

    def _raise(self, run: Run[Any, Any], event: object) -> None:
        self._calls += 1
        if self._calls > self._last:
            raise self.error

    def _state(self) -> dict[str, Any]:
        if self._armed:
            self._raise(None, None)  # type: ignore[arg-type]
        return {}

    def _give_a_reason(self, run: Run[Any, Any], event: object) -> None:
        raise LookupError("something else")


@contextlib.contextmanager
def _refusing_its_state(error: BaseException) -> Iterator[None]:
    """Let the job's own callback raise when it is to take over what was stored, after the others before it did."""
    calls, load = iter(range(10**9)), LossSum.load_state

    def refusing(self: LossSum, state: Mapping[str, Any]) -> None:
        if next(calls):  # the first call puts the state of its construction back
            raise error
        load(self, state)

    LossSum.load_state = refusing  # type: ignore[method-assign]
    try:
        yield
    finally:
        LossSum.load_state = load  # type: ignore[method-assign]


class Witness(Callback):
    """Counts how often it is told of the end."""

    def __init__(self) -> None:
        self.ends = 0

    def on_fit_end(self, run: Run[Any, Any], event: object) -> None:
        self.ends += 1


def _surroundings() -> dict[str, str]:
    """What a run must put back: random state, handlers, threads."""
    return dict(
        leaves(
            {
                "torch": torch.get_rng_state(),
                "numpy": [str(part) for part in np.random.get_state()],
                "random": str(random.getstate()),
                "handlers": [str(signal.getsignal(number)) for number in NUMBERED],
                "threads": sorted(thread.name for thread in threading.enumerate()),
                "deterministic": torch.are_deterministic_algorithms_enabled(),
                "descriptors": len(os.listdir("/proc/self/fd")),
            }
        )
    )


def raised(campaign: Campaign) -> Trials:
    """F16: the error comes out typed, every other ending runs once, what is the process's is put back, nothing half is saved."""
    cases, stored = [(hook, kind) for hook in PLACES for kind in RAISED], campaign.killed(25)

    def make(trials: Trials) -> None:
        for hook, kind in campaign.some(cases, least=10):
            job = campaign.copied(stored) if hook == "load_state" else Job(campaign.fresh())
            job = replace(job, background=trials.made % 2 == 0)
            problems = _one(job, hook, kind("on purpose"))
            after = campaign.finished_here(job)
            campaign.done(job.folder, trials.count(f"{kind.__name__} in {hook}", *problems, after))

    campaign.reference()
    return campaign.serving(make)


def _one(job: Job, hook: str, error: BaseException) -> tuple[str | None, ...]:
    witness, model = Witness(), network().eval()
    before = _surroundings()
    caught: BaseException | None = None
    try:
        if hook == "load_state":
            with _refusing_its_state(error):
                run_job(replace(job, extra=(witness,)), model=model)
        else:
            run_job(replace(job, extra=(Raiser(hook, error), witness)), model=model)
    except BaseException as found:
        caught = found
    after = _surroundings()
    lost = next((f"{key} was not put back: {after[key]}, was {before[key]}" for key in before if before[key] != after[key]), None)
    due = 0 if hook == "load_state" else 1  # a run that could not be loaded has not begun
    ends = None if witness.ends == due else f"the other callback was told of the end {witness.ends} times"
    flags = "the model was left in training mode" if any(module.training for module in model.modules()) else None
    return _rightly(hook, error, caught), ends, lost, flags, folder_problem(job.runs, [])


def _rightly(hook: str, error: BaseException, caught: BaseException | None) -> str | None:
    """Say what is wrong about what came out: an interrupt is itself, an error is typed and has its cause."""
    if caught is None:
        return "nothing came out"
    if hook == "on_exception" and isinstance(error, Exception):
        noted = any("on purpose" in note for note in getattr(caught, "__notes__", ()))
        return None if isinstance(caught.__cause__, LookupError) and noted else f"{caught!r} came out, with {caught.__cause__!r}"
    if not isinstance(error, Exception):
        return None if caught is error else f"{caught!r} came out"
    chain = [caught, caught.__cause__, getattr(caught.__cause__, "__cause__", None)]
    typed = isinstance(caught, (CallbackError, CheckpointError)) and error in chain
    return None if typed else f"{caught!r} came out, with {caught.__cause__!r}"
