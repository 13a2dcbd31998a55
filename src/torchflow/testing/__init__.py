"""Checks of the library's promise on a job of your own: killed and resumed it ends equal, and watching does not change it.

Write a function at the top of a module that makes the job, and call the verification from a test::

    # test_promises.py
    import torch
    from torch import nn
    from torchflow import Trainer, data, supervised
    from torchflow.testing import Job, verify_observers, verify_resume

    def job() -> Job:
        trainer = Trainer(supervised(nn.MSELoss()), optimizer=lambda model: torch.optim.Adam(model.parameters()))
        return Job(trainer, lambda: nn.Linear(1, 1), data.linear(samples=200), {"epochs": 3})

    def test_a_killed_run_ends_equal() -> None:
        verify_resume(job)

    def test_observers_do_not_disturb() -> None:
        verify_observers(job)

Both raise :class:`DifferenceError` where runs differ, and name the first value that does and its update. Every process makes the
job again by calling the function, so it should be small: some dozen updates are enough.
"""

from __future__ import annotations

from torchflow.testing.children import ChildError
from torchflow.testing.observers import verify_observers
from torchflow.testing.places import Job
from torchflow.testing.report import Difference, DifferenceError, Report
from torchflow.testing.resume import Kill, verify_resume

__all__ = ["ChildError", "Difference", "DifferenceError", "Job", "Kill", "Report", "verify_observers", "verify_resume"]
