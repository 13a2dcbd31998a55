"""F9, F10 and F18: the disk refuses, files may not grow, memory is short."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.faults.campaign import Campaign, Trials
from tests.faults.children import ended, said, start
from tests.faults.control import put
from tests.faults.disks import as_before, record_reports, reported, watch_operations
from tests.faults.job import Job, run_job, seeing_step
from tests.faults.saves import folder_problem, operations_of
from torchflow.checkpoint import format as state_format
from torchflow.checkpoint import reading
from torchflow.checkpoint.files import FileSystem
from torchflow.errors import CheckpointError

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.EINTR, None)
"""None stands for a write that takes one byte only."""


def fail_at(wanted: int, error: int | None, *, once: bool) -> None:
    """Let a file operation of this process fail, or all from there on; a short write takes one byte of what it is given."""
    write, numbers = FileSystem.write, iter(range(10**9))
    if error is None:

        def short(self: FileSystem, descriptor: int, content: memoryview) -> int:
            number = next(numbers)
            due = number == wanted if once else number >= wanted
            return write(self, descriptor, content[:1] if due else content)

        put(FileSystem, "write", short)
        return

    def fail(number: int, name: str, given: tuple[Any, ...]) -> None:
        due = number == wanted if once else number >= wanted
        if due and name == "close":
            os.close(given[0])  # an error of close closes all the same
        if due:
            raise OSError(error, os.strerror(error))

    watch_operations(before=fail)


def disk_errors(campaign: Campaign) -> Trials:
    """F9: each operation of a run fails with each error, alone or with all from there on; the run stops with a typed error or goes on.

    The run is short, so that every case is tried: it saves four times, at its start, twice between, and at its end.
    """
    names = operations_of(campaign, short=True)
    cases = [(number, error, once) for number in range(len(names)) for error in ERRORS for once in (True, False)]

    def make(trials: Trials) -> None:
        for turn, (number, error, once) in enumerate(campaign.some(cases, least=20)):
            job = Job(campaign.fresh(), background=turn % 3 > 0, short=True)
            policy = "stop" if turn % 2 else "warn"
            with as_before():
                record_reports(job.folder / "reports")
                fail_at(number, error, once=once)
                problems = _after_error(job, _failing(job, policy))
            word = "short write" if error is None else errno.errorcode[error]
            name = f"{names[number]} {number}, {word}, {'once' if once else 'from there on'}, {policy}"
            campaign.done(job.folder, trials.count(name, *problems, campaign.finished_here(job)))

    campaign.reference(short=True)
    trials = campaign.serving(make, within=1200)
    trials.notes.append(f"every one of {len(names)} operations")
    return trials


def _failing(job: Job, policy: str) -> str | None:
    """Run a job on a disk that fails; say what is wrong about how it ends. Its typed error, if any, is written down."""
    try:
        run_job(replace(job, saving={"on_error": policy}))
    except CheckpointError as error:
        (job.folder / "error").write_text(str(error))
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return None


def _failing_child(job: Job, arm: Callable[[], None], policy: str) -> str | None:
    """The same in a child, for limits that a process cannot take back."""

    def train() -> None:
        record_reports(job.folder / "reports")
        arm()
        problem = _failing(job, policy)
        if problem is not None:
            raise RuntimeError(problem)

    status = ended(start(train, job.folder))
    return None if status == 0 else f"status {status}: {said(job.folder)}"


def _after_error(job: Job, problem: str | None) -> tuple[str | None, ...]:
    error = job.folder / "error"
    named = (
        None if not error.exists() or str(job.runs) in error.read_text() else f"the error does not name a path: {error.read_text()}"
    )
    return problem, named, folder_problem(job.runs, reported(job.folder / "reports"))


def files_limited(campaign: Campaign) -> Trials:
    """F10: RLIMIT_FSIZE, the real "file too large", at ten sizes; as F9, and nothing is left over but temporary files."""
    trials, base = Trials(), campaign.killed(25)
    largest = max(path.stat().st_size for path in base.runs.rglob("*") if path.is_file())
    for number in campaign.some(range(10), least=3):
        for policy in ("stop", "warn"):
            limit = largest * number // 9  # from nothing at all to all but the largest file, which then just fits
            job = campaign.copied(base)
            problem = _failing_child(job, partial(_limit_files, limit), policy)
            problems = (*_after_error(job, problem), _left_over(job))
            campaign.done(job.folder, trials.count(f"{limit} bytes, {policy}", *problems, campaign.finished(job)))
    _full_disks(campaign, trials, base)
    return trials


def _left_over(job: Job) -> str | None:
    names = {path.name for path in (job.runs / "checkpoints").iterdir()}
    left = sorted(name for name in names if not name.startswith(("step-", ".tmp-")))
    return f"{left} are left over" if left else None


def _full_disks(campaign: Campaign, trials: Trials, base: Job) -> None:
    """A real file system of 2 MiB, with room for a part of a run only; then there is room again."""
    disk = campaign.fresh()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False).returncode:
        trials.notes.append("no file system of 2 MiB could be mounted")
        return
    used = sum(path.stat().st_size for path in base.runs.rglob("*") if path.is_file())
    try:
        for number in campaign.some(range(10), least=3):
            for policy in ("stop", "warn"):
                job = campaign.copied(base)
                job.runs.rename(job.folder / "was")
                shutil.copytree(job.folder / "was", disk / "run")
                job.runs.symlink_to(disk / "run")
                room = used * number // 6  # from no page at all to enough for all that the run still writes
                problem = _failing_child(job, partial(_fill, disk, room), policy)
                problems = (*_after_error(job, problem), _left_over(job))
                (disk / "ballast").unlink()
                survived = trials.count(f"{room} bytes free, {policy}", *problems, campaign.finished(job))
                campaign.done(job.folder, survived)
                shutil.rmtree(disk / "run")
        trials.notes.append("a file system of 2 MiB was mounted")
    finally:
        subprocess.run(["umount", "-l", disk], capture_output=True, check=False)


def _fill(disk: Path, room: int) -> None:
    """Leave so many bytes free, as far as pages allow."""
    found = os.statvfs(disk)
    with open(disk / "ballast", "wb") as file:
        file.write(bytes(max(0, found.f_bavail * found.f_frsize - room)))


def _limit_files(limit: int) -> None:
    """Hold the checkpoints' writes to a size; the job's own log is no part of the trial."""
    write = FileSystem.write
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self: FileSystem, descriptor: int, content: memoryview) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            return write(self, descriptor, content)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    put(FileSystem, "write", limited)


def out_of_memory(campaign: Campaign) -> Trials:
    """F18: an allocation fails in the step, while the state is copied or while a checkpoint is read; then memory is back."""
    trials, base = Trials(), campaign.killed(25)
    arms: dict[str, Callable[[Job], Job | None]] = {
        f"{name}, step {call}": partial(_hungry, call, starve)
        for name, starve in {"allocator": _refused_by_allocator, "MemoryError": _memory_error, "RLIMIT_AS": _limited}.items()
        for call in (0, 9, 20)
    }
    arms |= {f"MemoryError, copy {call}": partial(_failing_call, state_format, "snapshot", call) for call in (0, 3, 60)}
    arms |= {f"MemoryError, file read {call}": partial(_failing_call, reading, "read_file", call) for call in (0, 1, 2)}
    for name, arm in campaign.some(list(arms.items()), least=4):
        job = campaign.copied(base)

        def train(job: Job = job, arm: Callable[[Job], Job | None] = arm) -> None:
            record_reports(job.folder / "reports")
            armed = arm(job) or job
            try:
                run_job(armed)
            except (CheckpointError, MemoryError, RuntimeError) as error:
                (job.folder / "error").write_text(f"{type(error).__name__}: {error}")

        status = ended(start(train, job.folder))
        failed = None if (job.folder / "error").exists() and status == 0 else f"it went on, status {status}: {said(job.folder)}"
        bad = list((job.runs / "checkpoints").glob(".bad-*"))
        taken = f"a good checkpoint was taken for a bad one: {bad}" if bad else None
        problem = folder_problem(job.runs, reported(job.folder / "reports"))
        campaign.done(job.folder, trials.count(name, failed, taken, problem, campaign.finished(job)))
    return trials


def _hungry(wanted: int, starve: Callable[[], object], job: Job) -> Job:
    calls: Iterator[int] = iter(range(10**9))

    def step(model: nn.Module, batch: Any) -> Tensor:
        if model.training and next(calls) == wanted:
            starve()
        return seeing_step(model, batch)

    return replace(job, trainer={"step": step})


def _refused_by_allocator() -> None:
    torch.empty(2**50)  # four petabytes: torch's own allocator says no


def _memory_error() -> None:
    raise MemoryError


def _limited() -> None:
    """Ask for more than the process may have in all."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + 2**23, hard))
    torch.ones(2**26)


def _failing_call(module: Any, name: str, wanted: int, job: Job) -> None:
    original, calls = getattr(module, name), iter(range(10**9))

    def failing(*given: Any, **named: Any) -> Any:
        if next(calls) == wanted:
            raise MemoryError
        return original(*given, **named)

    put(module, name, failing)
