"""Fastai: a Learner around torch's own loaders and optimizer."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

from fastai.callback.core import Callback, CancelValidException
from fastai.callback.tracker import SaveModelCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import mae
from fastai.optimizer import OptimWrapper

from benchmarks.contestants.peers.loading import train_loader, valid_loader
from benchmarks.gate import Gate
from benchmarks.workloads import Workload


class Turns(Callback):
    """Waits at a gate before each epoch."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def before_epoch(self) -> None:
        """Wait for the turn."""
        self._gate.begin(self.learn.model)


class Unvalidated(Callback):
    """Leaves out the validation, without which no Learner is made."""

    def before_validate(self) -> None:
        """Go on with the next epoch."""
        raise CancelValidException


def train(workload: Workload, gate: Gate) -> None:
    """Train with ``fit``."""
    model = workload.model()
    optimizer = workload.optimizer(model)
    loaders = DataLoaders(train_loader(workload), valid_loader(workload) or [next(workload.batches(0))])
    own = [SaveModelCallback(monitor="valid_loss")] if workload.observed else [Unvalidated()]
    with tempfile.TemporaryDirectory() as folder:
        learner = Learner(
            loaders,
            model,
            loss_func=workload.loss(),
            opt_func=lambda *_, **__: OptimWrapper(opt=optimizer),
            lr=optimizer.param_groups[0]["lr"],
            metrics=[mae] if workload.observed else [],
            cbs=[Turns(gate), *own],
            path=folder,
        )
        with contextlib.nullcontext() if workload.observed else _silent(learner):
            learner.fit(gate.rounds)


@contextlib.contextmanager
def _silent(learner: Any) -> Iterator[None]:
    with learner.no_bar(), learner.no_logging():
        yield
