"""F19 and F22: two processes on one folder, and clocks that jump."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tests.faults.campaign import Campaign, Trials
from tests.faults.children import PATIENCE, ended, kill_group, said, start
from tests.faults.job import Job, read_log, train_to_end
from tests.faults.saves import folder_problem
from torchflow import Callback, Every, Run, Stepped
from torchflow.checkpoint import Store


class Slow(Callback):
    """Makes every update take a few milliseconds more, so that another process meets the run."""

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        time.sleep(0.01)


def shared(campaign: Campaign) -> Trials:
    """F19: exactly one writes, the other is told by whom at once; a killed holder's folder is free, a stopped one's is not."""
    trials, source, repeats = Trials(), campaign.random("F19"), campaign.trials(10)
    for _ in range(repeats):
        for scene in (_together, _second_in_mid_run, _holder_killed, _holder_stopped):
            job = Job(campaign.fresh(), extra=(Slow(),))
            problem = scene(job, source)
            after = campaign.finished(replace(job, extra=()))
            campaign.done(job.folder, trials.count(scene.__name__.strip("_"), problem, folder_problem(job.runs, []), after))
        job = Job(campaign.fresh(), extra=(Slow(),))
        trials.count("folder moved away from a stopped holder", _moved_away(job))
    return trials


def _begin(job: Job) -> int:
    pid = start(lambda: train_to_end(job), job.folder)
    deadline = time.monotonic() + PATIENCE
    while not read_log(job.folder)[0] and time.monotonic() < deadline:
        time.sleep(0.001)
    return pid


def _is_told(job: Job) -> str | None:
    """Start a second process on the folder, and say what is wrong about how it ends."""
    second = replace(job, folder=job.folder / "second", saving={})
    second.folder.mkdir(exist_ok=True)
    (second.folder / "run").unlink(missing_ok=True)
    (second.folder / "run").symlink_to(job.runs)
    began = time.monotonic()
    status = ended(start(lambda: train_to_end(second), second.folder))
    words = said(second.folder)
    if status == 0 or "the run is in use by pid" not in words:
        return f"the second ended with status {status}: {words}"
    return None if time.monotonic() - began < 5 else "the second waited"


def _together(job: Job, source: random.Random) -> str | None:
    """Both start in one moment: one ends well and the other is told."""
    second = replace(job, folder=job.folder / "second")
    second.folder.mkdir()
    job.runs.mkdir()
    second.runs.symlink_to(job.runs)
    pids = [start(partial(train_to_end, each), each.folder) for each in source.sample([job, second], 2)]
    statuses = sorted(str(ended(pid)) for pid in pids)
    words = said(job.folder) + said(second.folder)
    good = statuses == ["0", "70"] and "the run is in use by" in words
    if (second.folder / "result").exists():  # the second won: its log is the run's
        (second.folder / "result").rename(job.folder / "result")
        (second.folder / "log").rename(job.folder / "log")
    return None if good else f"statuses {statuses}: {words}"


def _second_in_mid_run(job: Job, source: random.Random) -> str | None:
    pid = _begin(job)
    time.sleep(source.uniform(0, 0.1))
    told = _is_told(job)
    status = ended(pid)
    return told or (None if status == 0 else f"the holder ended with status {status}: {said(job.folder)}")


def _holder_killed(job: Job, source: random.Random) -> str | None:
    """The next process takes over at once; that it ends equal is looked at by the caller."""
    pid = _begin(job)
    time.sleep(source.uniform(0, 0.2))
    kill_group(pid)
    ended(pid)
    return None


def _holder_stopped(job: Job, source: random.Random) -> str | None:
    """A stopped process still holds the folder, and goes on when it is continued."""
    pid = _begin(job)
    time.sleep(source.uniform(0, 0.1))
    os.kill(pid, signal.SIGSTOP)
    told = _is_told(job)
    os.kill(pid, signal.SIGCONT)
    status = ended(pid)
    return told or (None if status == 0 else f"the holder ended with status {status}: {said(job.folder)}")


def _moved_away(job: Job) -> str | None:
    """A holder whose folder was moved while it was stopped writes no more, neither there nor here."""
    pid = _begin(job)
    os.kill(pid, signal.SIGSTOP)
    moved = job.folder / "moved"
    job.runs.rename(moved)
    os.kill(pid, signal.SIGCONT)
    status, words = ended(pid), said(job.folder)
    if status == 0 or ("no longer held by this process" not in words and "no longer" not in words):
        return f"the holder ended with status {status}: {words}"
    return "it wrote a new folder" if job.runs.exists() else folder_problem(moved, [])


def clocks(campaign: Campaign) -> Trials:
    """F22: the monotonic clock and the time jump, stand still or are no number; the files' times are equal or reversed."""
    trials = Trials()
    jumps: dict[str, Callable[[float, int], float]] = {
        "back an hour": lambda now, call: now - 3600 * (call > 40),
        "forward a day": lambda now, call: now + 86400 * (call > 40),
        "standing still": lambda now, call: 5.0,
        "not a number": lambda now, call: math.nan,
    }
    for name, jump in campaign.some(list(jumps.items()), least=2):
        for every in (None, Every(seconds=0.02)):
            job = Job(campaign.fresh(), background=False, saving=None if every is None else {"every": every})
            status = ended(start(partial(_with_clock, job, jump), job.folder))
            problem = campaign.compared(job) if status == 0 else f"status {status}: {said(job.folder)}"
            campaign.done(job.folder, trials.count(f"clock {name}, checkpoints {every}", problem))
    for name in ("equal", "reversed"):
        job = campaign.killed(25)
        newest = Store(job.runs).steps()[-1]
        for number, path in enumerate(sorted((job.runs / "checkpoints").iterdir())):
            stamp = 1e9 - 1000 * number * (name == "reversed")
            os.utime(path, (stamp, stamp))
        status = ended(start(partial(train_to_end, job), job.folder))
        begun = read_log(job.folder)[0][-1]
        chosen = None if begun == newest else f"it went on from {begun}, and {newest} is the newest"
        campaign.done(
            job.folder, trials.count(f"times {name}", chosen, campaign.compared(job) if status == 0 else said(job.folder))
        )
    return trials


def _with_clock(job: Job, jump: Callable[[float, int], float]) -> None:
    """Train with clocks that jump after some calls; how long it takes is no part of what is compared."""
    calls = iter(range(10**9))
    monotonic, wall = time.monotonic, time.time
    time.monotonic = lambda: jump(monotonic(), next(calls))
    time.time = lambda: jump(wall(), next(calls))
    train_to_end(job)
