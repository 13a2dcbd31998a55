"""F7: SIGTERM, SIGINT and SIGUSR1 at random times, twice in a row, in a save and in a validation."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tests.faults.campaign import Campaign, Trials
from tests.faults.children import PATIENCE, ended, said, start
from tests.faults.disks import record_reports, reported, watch_operations
from tests.faults.job import SAVE_EVERY, UPDATES, Job, read_log, seeing_step, train_to_end
from tests.faults.saves import folder_problem, operations_of

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
OPENING = 10
"""The file operations before the first save, when the run does not listen yet."""
STATUSES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 0}


def signalled(campaign: Campaign) -> Trials:
    """F7: the update is finished, one save made, and the status tells; a second SIGINT leaves at once."""
    trials, source, repeats = Trials(), campaign.random("F7"), campaign.trials(30)
    operations = len(operations_of(campaign))
    for number in SIGNALS:
        for _ in range(repeats):
            _by_parent(campaign, trials, number, source, twice=False)
        for _ in range(repeats):
            _by_itself(campaign, trials, number, "in a save", _in_a_save(number, source.randrange(OPENING, operations)))
        for _ in range(max(1, repeats // 3)):
            _by_itself(campaign, trials, number, "in a validation", _in_a_validation(number, source.randint(1, 4)))
        for _ in range(repeats):
            _by_parent(campaign, trials, number, source, twice=True)
    return trials


def _recording(job: Job, arm: Callable[[], Job | None]) -> Callable[[], None]:
    def train() -> None:
        record_reports(job.folder / "reports")
        train_to_end(arm() or job)

    return train


def _by_parent(campaign: Campaign, trials: Trials, number: signal.Signals, source: random.Random, *, twice: bool) -> None:
    """Send a signal at a random moment after the run has begun."""
    job = Job(campaign.fresh(), background=source.random() < 0.5, workers=source.choice((0, 0, 2)))
    pid = start(_recording(job, lambda: None), job.folder)
    deadline = time.monotonic() + PATIENCE
    while not read_log(job.folder)[0] and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(source.uniform(0, 0.8 * campaign.seconds()))
    os.kill(pid, number)
    if twice:
        time.sleep(source.choice((0.0, source.uniform(0, 0.01))))
        os.kill(pid, number)
    _judge(campaign, trials, job, number, ended(pid), "twice" if twice else "at random", second=twice and number == signal.SIGINT)


def _by_itself(campaign: Campaign, trials: Trials, number: signal.Signals, place: str, arm: Callable[[Job], Job | None]) -> None:
    """Let the process send itself a signal at a chosen place."""
    job = Job(campaign.fresh(), background=trials.made % 2 == 0)
    status = ended(start(_recording(job, lambda: arm(job)), job.folder))
    _judge(campaign, trials, job, number, status, place, second=False)


def _in_a_save(number: signal.Signals, operation: int) -> Callable[[Job], Job | None]:
    def arm(job: Job) -> None:
        watch_operations(before=lambda at, name, given: os.kill(os.getpid(), number) if at == operation else None)

    return arm


def _in_a_validation(number: signal.Signals, validation: int) -> Callable[[Job], Job | None]:
    def arm(job: Job) -> Job:
        batches = iter(range(10**9))

        def step(model: nn.Module, batch: Any) -> Tensor:
            if not model.training and next(batches) == 3 * (validation - 1) + 1:  # ten samples are three batches
                os.kill(os.getpid(), number)
            return seeing_step(model, batch)

        return Job(job.folder, background=job.background, trainer={"step": step})

    return arm


def _judge(
    campaign: Campaign, trials: Trials, job: Job, number: signal.Signals, status: int | None, place: str, *, second: bool
) -> None:
    _, reached, _ = read_log(job.folder)
    reports = reported(job.folder / "reports")
    done = (job.folder / "result").exists()  # then the signal came too late to be heard by the run
    late = done or reports[-1:] == [UPDATES]  # or it came when the run was over, and its result not yet written down
    wrong = None
    if not late and status != STATUSES[number]:
        wrong = f"status {status} instead of {STATUSES[number]}: {said(job.folder)}"
    elif not late and not second and reports[-1:] != reached[-1:]:
        wrong = f"update {reached[-1:]} was finished, and {reports[-1:]} was the last save"
    elif done and number == signal.SIGUSR1 and place != "at random" and not _extra(reports):
        wrong = f"nothing was saved but {reports}"
    survived = trials.count(
        f"{number.name} {place}",
        wrong,
        folder_problem(job.runs, reports),
        campaign.compared(job) if done else campaign.finished(job),
    )
    if done:
        trials.notes[:] = [f"{1 + int(trials.notes[0].split()[0]) if trials.notes else 1} after the end, or to save and go on"]
    campaign.done(job.folder, survived)


def _extra(reports: list[int]) -> bool:
    """Say whether a save was made beside the regular ones; at the end of the run there is none to ask for."""
    regular = {*range(0, UPDATES, SAVE_EVERY), UPDATES}
    return len(reports) > len(set(reports)) or bool(set(reports) - regular) or len(reports) >= len(regular)
