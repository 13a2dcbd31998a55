"""F2 and F3: the process is killed at every file operation of its saves, and of the recovery from such a kill."""

from __future__ import annotations

import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.faults.campaign import Campaign, Trials
from tests.faults.children import ended, said, start
from tests.faults.disks import die_after, die_half_way, record_operations, record_reports, reported
from tests.faults.job import Job, train_to_end
from torchflow.checkpoint import Store, read_checkpoint
from torchflow.errors import CheckpointError

RECOVERY = 14
"""File operations of a restart that are tried: all of the recovery, and the first of the next save."""


def operations_of(campaign: Campaign, *, short: bool = False) -> list[str]:
    """Return the file operations of an undisturbed run, in their order."""
    job = Job(campaign.fresh(), short=short)

    def train() -> None:
        record_operations(job.folder / "operations")
        train_to_end(job)

    if ended(start(train, job.folder)):
        raise RuntimeError(said(job.folder))
    return (job.folder / "operations").read_text().split()


def run_and_die(job: Job, kill: Callable[[], None]) -> int | None:
    """Run a job in a child that will be killed; return its status."""

    def train() -> None:
        record_reports(job.folder / "reports")
        kill()
        train_to_end(job)

    return ended(start(train, job.folder))


def folder_problem(runs: Path, reports: list[int]) -> str | None:
    """Say what is wrong in the folder of a killed run: a reported checkpoint that is lost, a half one under a valid name."""
    try:
        for path in sorted((runs / "checkpoints").glob("step-*")):
            read_checkpoint(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = Store(runs).load()
    except (CheckpointError, UserWarning) as error:
        return f"{type(error).__name__}: {error}"
    newest = -1 if loaded is None else loaded.step
    return f"step {reports[-1]} was reported, and {newest} is the newest" if reports and newest < reports[-1] else None


def killed_in_saves(campaign: Campaign) -> Trials:
    """F2: SIGKILL after every file operation of every save of a run, and in the middle of every write.

    Every point inside a save comes five times or more: nine saves of a run have it, and the opening and the first save, which have
    points of their own, are tried four times more.
    """
    trials, names = Trials(), operations_of(campaign)
    points = [("after", number) for number in range(len(names))]
    points += [("amid", number) for number, name in enumerate(names) if name == "write"]
    first = (
        names.index("rename", names.index("rename") + 1) + 2
    )  # run.json is renamed, then the checkpoint, and its folder is synced
    points += 4 * [(when, number) for when, number in points if number < first]
    for turn, (when, number) in enumerate(campaign.some(points, least=40)):
        job = Job(campaign.fresh(), background=turn % 2 == 0)
        kill = die_after if when == "after" else die_half_way
        status = run_and_die(job, lambda kill=kill, number=number: kill(number))  # type: ignore[misc]
        lived = None if status == -signal.SIGKILL else f"it was not killed: status {status}"
        problem = folder_problem(job.runs, reported(job.folder / "reports"))
        survived = trials.count(f"{when} operation {number} ({names[number]})", lived, problem, campaign.finished(job))
        campaign.done(job.folder, survived)
    trials.notes.append(f"{len(names)} operations in 9 or more saves")
    return trials


def killed_in_recovery(campaign: Campaign) -> Trials:
    """F3: SIGKILL in a save, then at every file operation of the restart, then a restart."""
    trials, names = Trials(), operations_of(campaign)
    writes = [number for number, name in enumerate(names) if name in ("write", "rename", "remove")]
    for first in campaign.some(writes[4 :: max(1, len(writes) // 8)][:6]):
        broken = Job(campaign.fresh())
        run_and_die(broken, lambda first=first: die_after(first))  # type: ignore[misc]
        for number in range(RECOVERY):
            job = Job(campaign.fresh())
            shutil.copytree(broken.folder, job.folder, dirs_exist_ok=True)
            run_and_die(job, lambda number=number: die_after(number))  # type: ignore[misc]
            problem = folder_problem(job.runs, reported(job.folder / "reports"))
            survived = trials.count(f"{first}, then {number}", problem, campaign.finished(job))
            campaign.done(job.folder, survived)
    return trials
