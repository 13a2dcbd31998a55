"""F1 and F4: the process is killed at a random moment, again and again, with the same or another number of workers."""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import product
from typing import Literal

from tests.faults.campaign import Campaign, Trials
from tests.faults.children import PATIENCE, ended, group_lives, kill_group, said, start
from tests.faults.job import SAVE_EVERY, Job, read_log, train_to_end
from torchflow.data import Workers

SECONDS_FOR_ORPHANS = 12.0
"""Workers look every five seconds whether their parent lives."""
SECONDS_TO_BEGIN = 300.0
"""New interpreters import torch at every epoch where workers do not stay: half a minute for a run on a machine with other work."""


def killed_at_random(campaign: Campaign) -> Trials:
    """F1: SIGKILL at uniformly random times, one to five a trial, and a restart until the run is done."""
    trials, source, groups, kills = Trials(), campaign.random("F1"), [], 0
    for number in range(campaign.trials(200)):
        # Processes that read ahead cost much to start, so every tenth trial has them; every other has threads.
        foreign, workers = number % 5 == 0, 2 if number % 2 == 0 else 0
        job = Job(campaign.fresh(), foreign=foreign, workers=workers, background=source.random() < 0.5)
        started, problem = _killed_until_done(campaign, [job], source.randint(1, 5), source)
        groups += started
        kills += len(started) - 1
        survived = trials.count(f"trial {number} {job}", problem, lost_work(job))
        campaign.done(job.folder, survived)
    _no_orphans(trials, groups)
    trials.notes.append(f"{kills} kills")
    return trials


def workers_changed(campaign: Campaign) -> Trials:
    """F4: every restart has other workers: their number, how they begin, whether they stay, and how far ahead they read."""
    trials, source, ways = Trials(), campaign.random("F4"), _ways_to_read()
    source.shuffle(ways)
    restarts, groups = 0, []
    while restarts < campaign.trials(60):
        foreign = trials.made % 2 == 0
        folder = campaign.fresh()
        chosen = [ways[(4 * trials.made + number) % len(ways)] for number in range(4)]
        jobs = [Job(folder, foreign=foreign, workers=workers) for workers in chosen]
        started, problem = _killed_until_done(campaign, jobs, 3, source, under_way=foreign)
        restarts += len(started) - 1
        groups += started
        campaign.done(folder, trials.count(f"trial {trials.made} {jobs}", problem))
    _no_orphans(trials, groups)
    trials.notes.append(f"{restarts} restarts")
    return trials


def _ways_to_read() -> list[Workers]:
    """Return every number of workers with each way to begin, to stay and to read ahead."""
    starts: tuple[Literal["fork", "spawn"], ...] = ("fork", "spawn")
    ways = product((0, 1, 2, 3), (1, 4), starts, (True, False))
    return [Workers(number, prefetch, start, persistent) for number, prefetch, start, persistent in ways]


def _killed_until_done(
    campaign: Campaign, jobs: list[Job], kills: int, source: random.Random, *, under_way: bool = False
) -> tuple[list[int], str | None]:
    """Start the jobs one after the other and kill them, then let the last one finish; return the groups and the problem.

    With ``under_way`` every other kill comes when the process has made an update: it may take seconds to begin.
    """
    groups: list[int] = []
    usual = campaign.seconds(foreign=jobs[0].foreign)
    for number in range(kills):
        job = jobs[number % len(jobs)]
        pid = start(lambda job=job: train_to_end(job), job.folder)  # type: ignore[misc]
        groups.append(pid)
        if under_way and number % 2 == 0:
            _wait_for_update(job, number + 1, pid)
        status = ended(pid, within=source.uniform(0, usual / 2))  # so that a run is killed more than once
        if status is not None:
            return groups, campaign.compared(job) if status == 0 else f"status {status}: {said(job.folder)}"
        if source.random() < 0.5:
            kill_group(pid)
        else:
            os.kill(pid, signal.SIGKILL)  # its workers must find out by themselves
        ended(pid)
    job = jobs[kills % len(jobs)]
    pid = start(lambda: train_to_end(job), job.folder)
    groups.append(pid)
    status = ended(pid, patience=SECONDS_TO_BEGIN if under_way else PATIENCE)
    return groups, campaign.compared(job) if status == 0 else f"status {status}: {said(job.folder)}"


def _wait_for_update(job: Job, processes: int, last: int) -> None:
    """Wait until the last of some processes has made an update, or has ended because none was left to make."""
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while time.monotonic() < deadline and os.waitid(os.P_PID, last, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        starts, reached, _ = read_log(job.folder)
        if len(starts) == processes and reached[-1] > starts[-1]:
            return
        time.sleep(0.002)


def lost_work(job: Job) -> str | None:
    """Say whether a restart lost more updates than it may: one interval, or one more where a save was in flight."""
    starts, reached, _ = read_log(job.folder)
    allowed = SAVE_EVERY * (2 if job.background else 1)
    lost = max((came - went for came, went in zip(reached, starts[1:], strict=False)), default=0)
    return f"{lost} updates were lost at a restart, more than {allowed}" if lost > allowed else None


def _no_orphans(trials: Trials, groups: list[int]) -> None:
    deadline = time.monotonic() + SECONDS_FOR_ORPHANS
    while (left := [group for group in groups if group_lives(group)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        trials.failures.append(f"orphaned workers in the groups {left}")
