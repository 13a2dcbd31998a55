"""torchflow itself: eager, bare and watched, and compiled."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from benchmarks.contestants import Timed
from benchmarks.gate import Gate
from benchmarks.quiet import Null
from benchmarks.workloads import SEED, Workload
from torchflow import Callback, Checkpoints, EarlyStopping, EpochStarted, ProgressBar, Run, Trainer, Updates, supervised
from torchflow.metrics import absolute_error

FOREVER = 10**6


class Stopwatch(Callback):
    """Notes the moment at which the first epoch begins."""

    began = 0.0

    def on_epoch_start(self, run: Run[Any, Any], event: EpochStarted) -> None:
        """Start, once."""
        if event.progress.epoch == 0:
            self.began = time.perf_counter()


class Idle(Callback):
    """Overrides no hook."""


class Turns(Callback):
    """Waits at a gate before each epoch."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_epoch_start(self, run: Run[Any, Any], event: EpochStarted) -> None:
        """Wait for the turn."""
        self._gate.begin(run.model)


class _LeavesOut(logging.Handler):
    """Ends the process at a gate where torchflow says that it could not do what was asked for."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(logging.WARNING)
        self._gate = gate

    def emit(self, record: logging.LogRecord) -> None:
        self._gate.leave_out(record.getMessage())


def bare(workload: Workload) -> Timed:
    """Train with nothing switched on; the history is always kept."""
    return _timed(workload, {"callbacks": {}}, None)


def watched(workload: Workload, *, idle: int = 0, **choices: object) -> Timed:
    """Train with history, bar and early stopping, and in W4 with a metric, validation and a checkpoint of the best epoch.

    Args:
        workload: What is trained.
        idle: How many callbacks come beside them that override no hook.
        choices: Further arguments of the Trainer.
    """
    callbacks: dict[str, Callback] = {f"idle_{number}": Idle() for number in range(idle)}
    callbacks |= {"bar": ProgressBar(stream=Null(), style="bar"), "early_stopping": EarlyStopping("train/loss", patience=FOREVER)}
    if not workload.observed:
        return _timed(workload, {"callbacks": callbacks, **choices}, None)
    with tempfile.TemporaryDirectory() as folder:
        return _timed(workload, {"callbacks": callbacks, **choices}, Path(folder))


def compiled(workload: Workload, gate: Gate, *, updates: int | Literal["epoch"]) -> None:
    """Train with whole updates compiled, one or several in a graph; what falls back to eager updates takes no part."""
    logging.getLogger("torchflow").addHandler(_LeavesOut(gate))
    choices = {"compile": True if updates == 1 else Updates(updates)}
    callbacks = {
        "turns": Turns(gate),
        "bar": ProgressBar(stream=Null(), style="bar"),
        "early_stopping": EarlyStopping("train/loss", patience=FOREVER),
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(workload, {"callbacks": callbacks, **choices}, Path(folder) if workload.observed else None)
        _fit(trainer, workload, workload.model(), epochs=gate.rounds)


def _timed(workload: Workload, choices: Mapping[str, Any], folder: Path | None) -> Timed:
    """Train one epoch, and time it from its start until ``fit`` is over."""
    watch = Stopwatch()
    trainer = _trainer(workload, {**choices, "callbacks": {**choices["callbacks"], "stopwatch": watch}}, folder)
    model = workload.model()
    _fit(trainer, workload, model, epochs=1)
    return Timed(time.perf_counter() - watch.began, model)


def _trainer(workload: Workload, choices: Mapping[str, Any], folder: Path | None) -> Trainer[nn.Module, Any]:
    metrics = {"error": absolute_error} if workload.observed else None
    return Trainer(
        supervised(workload.loss(), metrics=metrics),
        optimizer=workload.optimizer,
        checkpoints=None if folder is None else Checkpoints(folder, best="valid/loss"),
        progress=False,
        seed=SEED,
        **choices,
    )


def _fit(trainer: Trainer[nn.Module, Any], workload: Workload, model: nn.Module, *, epochs: int) -> None:
    trainer.fit(model, workload.train, epochs=epochs, batch_size=workload.batch, validation=workload.valid)
