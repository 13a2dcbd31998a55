"""F1 and F4: the process is killed at a random moment, again and again, with the same or another number of workers."""

from __future__ import annotations

import os
import random
import signal
import time

from tests.faults.campaign import Campaign, Trials
from tests.faults.children import ended, group_lives, kill_group, said, start
from tests.faults.job import SAVE_EVERY, Job, read_log, train_to_end

SECONDS_FOR_ORPHANS = 12.0
"""Workers look every five seconds whether their parent lives."""


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
    """F4: every restart has another number of workers, threads or processes."""
    trials, source, restarts = Trials(), campaign.random("F4"), 0
    while trials.made < campaign.trials(20):
        foreign = trials.made % 2 == 0
        folder = campaign.fresh()
        jobs = [Job(folder, foreign=foreign, workers=workers) for workers in source.sample(range(4), 4)]
        started, problem = _killed_until_done(campaign, jobs, 3, source)
        restarts += len(started) - 1
        campaign.done(folder, trials.count(f"trial {trials.made} workers {[job.workers for job in jobs]}", problem))
    trials.notes.append(f"{restarts} restarts")
    return trials


def _killed_until_done(campaign: Campaign, jobs: list[Job], kills: int, source: random.Random) -> tuple[list[int], str | None]:
    """Start the jobs one after the other and kill them, then let the last one finish; return the groups and the problem."""
    groups: list[int] = []
    usual = campaign.seconds(foreign=jobs[0].foreign)
    for number in range(kills):
        job = jobs[number % len(jobs)]
        pid = start(lambda job=job: train_to_end(job), job.folder)  # type: ignore[misc]
        groups.append(pid)
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
    status = ended(pid)
    return groups, campaign.compared(job) if status == 0 else f"status {status}: {said(job.folder)}"


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
