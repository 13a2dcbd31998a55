"""F17: the dataset raises, ends its worker, hangs, or returns what is no sample."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from tests.faults.campaign import Campaign, Trials
from tests.faults.children import ended, said, start
from tests.faults.control import put
from tests.faults.dataset import Foreign
from tests.faults.disks import record_reports, reported
from tests.faults.job import Job, run_job
from tests.faults.saves import folder_problem
from torchflow.data import processes
from torchflow.errors import DataError, NonFiniteError

SECONDS_TO_ANSWER = 1
"""How long a worker may take in a trial; in earnest it is five minutes."""
BAD_SAMPLES = (3, 40, 92)


class UnpicklableError(Exception):
    """An exception that cannot be sent from one process to another."""

    def __init__(self) -> None:
        super().__init__("held by a lock")
        self.lock = threading.Lock()


def _value_error(sample: Any) -> Any:
    raise ValueError("on purpose")


def _unpicklable(sample: Any) -> Any:
    raise UnpicklableError


def _stop_iteration(sample: Any) -> Any:
    raise StopIteration


def _exit(sample: Any) -> Any:
    sys.exit(3)


def _killed(sample: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _crashed(sample: Any) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hanging(sample: Any) -> Any:
    time.sleep(600)


def _nothing(sample: Any) -> Any:
    return None


def _ragged(sample: Any) -> Any:
    return (torch.zeros(7), *sample[1:])


def _not_a_number(sample: Any) -> Any:
    return (torch.full_like(sample[0], math.nan), *sample[1:])


EVERYWHERE = (_value_error, _unpicklable, _stop_iteration, _exit, _nothing, _ragged, _not_a_number)
IN_WORKERS = (_killed, _crashed, _hanging)
"""Inline, these are the end of the process itself: that is F1."""


def data_faults(campaign: Campaign) -> Trials:
    """F17: an error that names the sample or its batch, in time; never a short epoch; and the restart ends equal."""
    trials = Trials()
    cases = [(fault, count, index) for fault in EVERYWHERE for count in (0, 2) for index in BAD_SAMPLES]
    cases += [(fault, 2, index) for fault in IN_WORKERS for index in BAD_SAMPLES]
    for fault, count, index in campaign.some(cases, least=6):
        job = Job(campaign.fresh(), foreign=True, workers=count)
        problem = _run(job, fault, index)
        problems = (problem, folder_problem(job.runs, reported(job.folder / "reports")), campaign.finished(job))
        campaign.done(job.folder, trials.count(f"{fault.__name__} at {index}, {count} workers", *problems))
    return trials


def _run(job: Job, fault: Callable[[Any], Any], index: int) -> str | None:
    def at_index(here: int, sample: Any) -> Any:
        return fault(sample) if here == index else sample

    def train() -> None:
        record_reports(job.folder / "reports")
        put(processes, "SECONDS_TO_ANSWER", SECONDS_TO_ANSWER)
        try:
            run_job(replace(job, train=Foreign(at_index)))
        except (DataError, NonFiniteError) as error:
            (job.folder / "error").write_text(str(error))

    began = time.monotonic()
    status = ended(start(train, job.folder))
    if not (job.folder / "error").exists():
        return f"no typed error, status {status}: {said(job.folder)}"
    words, seconds = (job.folder / "error").read_text(), time.monotonic() - began
    if seconds > 20 * SECONDS_TO_ANSWER:
        return f"it took {seconds:.0f} s"
    named = str(index) in words or (fault in IN_WORKERS and "samples" in words)
    return None if named else f"the sample is not named: {words[:300]}"
