"""F9, F10 and F18: the disk refuses, files may not grow, memory is short."""

from __future__ import annotations

import errno
import os
import resource
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
from tests.faults.disks import record_reports, reported, watch_operations
from tests.faults.job import Job, run_job, seeing_step
from tests.faults.saves import folder_problem, operations_of
from torchflow.checkpoint import format as state_format
from torchflow.checkpoint import reading
from torchflow.checkpoint.files import FileSystem
from torchflow.errors import CheckpointError

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.EINTR, None)
"""None stands for a write that takes one byte only."""


def fail_at(wanted: int, error: int | None, *, once: bool) -> None:
    """Let a file operation of this process fail, or all from there on."""
    if error is None:
        write = FileSystem.write
        put(FileSystem, "write", lambda self, descriptor, content: write(self, descriptor, content[:1]))
        return

    def fail(number: int, name: str, given: tuple[Any, ...]) -> None:
        due = number == wanted if once else number >= wanted
        if due and name == "close":
            os.close(given[0])  # an error of close closes all the same
        if due:
            raise OSError(error, os.strerror(error))

    watch_operations(before=fail)


def disk_errors(campaign: Campaign) -> Trials:
    """F9: one operation fails, or all from there on; the run stops with a typed error or goes on, and older checkpoints verify."""
    trials, source, names = Trials(), campaign.random("F9"), operations_of(campaign)
    cases = [
        (number, error, once, policy)
        for number in range(0, len(names))
        for error in ERRORS[:-1]
        for once in (True, False)
        for policy in ("stop", "warn")
    ]
    short = [(0, None, True, "stop"), (0, None, True, "warn")]
    for number, error, once, policy in source.sample(cases, campaign.trials(300, least=20)) + short:
        job = Job(campaign.fresh(), background=source.random() < 0.5)
        status = _failing(job, partial(fail_at, number, error, once=once), policy)
        name = f"{names[number]} {number}, {errno.errorcode.get(error or 0, 'short write')}, {'once' if once else 'from there on'}, {policy}"
        problems = _after_error(job, status)
        campaign.done(job.folder, trials.count(name, *problems, campaign.finished(job)))
    trials.notes.append(f"drawn from {len(cases)}")
    return trials


def _failing(job: Job, arm: Callable[[], None], policy: str) -> int | None:
    """Run a job on a disk that fails; its typed error, if any, is written down, and its result does not count."""

    def train() -> None:
        record_reports(job.folder / "reports")
        arm()
        try:
            run_job(replace(job, saving={"on_error": policy}))
        except CheckpointError as error:
            (job.folder / "error").write_text(str(error))

    return ended(start(train, job.folder))


def _after_error(job: Job, status: int | None) -> tuple[str | None, ...]:
    error = job.folder / "error"
    typed = None if status == 0 else f"status {status}: {said(job.folder)}"
    named = (
        None if not error.exists() or str(job.runs) in error.read_text() else f"the error does not name a path: {error.read_text()}"
    )
    return typed, named, folder_problem(job.runs, reported(job.folder / "reports"))


def files_limited(campaign: Campaign) -> Trials:
    """F10: RLIMIT_FSIZE, the real "file too large", at ten sizes; as F9, and nothing is left over but temporary files."""
    trials, base = Trials(), campaign.killed(25)
    largest = max(path.stat().st_size for path in base.runs.rglob("*") if path.is_file())
    for number in campaign.some(range(10), least=3):
        for policy in ("stop", "warn"):
            limit = largest * number // 9  # from nothing at all to all but the largest file, which then just fits
            job = campaign.copied(base)
            status = _failing(job, partial(_limit_files, limit), policy)
            names = {path.name for path in (job.runs / "checkpoints").iterdir()}
            left = sorted(name for name in names if not name.startswith(("step-", ".tmp-")))
            problems = (*_after_error(job, status), f"{left} are left over" if left else None)
            campaign.done(job.folder, trials.count(f"{limit} bytes, {policy}", *problems, campaign.finished(job)))
    return trials


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
