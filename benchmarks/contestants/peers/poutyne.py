"""Poutyne: its Model and ``fit_generator``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from poutyne import Callback, Model, ModelCheckpoint

from benchmarks.contestants.peers.loading import train_loader, valid_loader
from benchmarks.gate import Gate
from benchmarks.workloads import Workload


class Turns(Callback):
    """Waits at a gate before each epoch."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def on_epoch_begin(self, epoch_number: int, logs: Any) -> None:
        """Wait for the turn."""
        self._gate.begin(self.model.network)


def train(workload: Workload, gate: Gate) -> None:
    """Train with ``fit_generator``."""
    network = workload.model()
    metrics = ["l1"] if workload.observed else None
    model = Model(network, workload.optimizer(network), workload.loss(), batch_metrics=metrics, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        callbacks: list[Any] = [Turns(gate)]
        if workload.observed:
            callbacks.append(ModelCheckpoint(str(Path(folder) / "best.pt"), save_best_only=True))
        model.fit_generator(
            train_loader(workload),
            valid_loader(workload),
            epochs=gate.rounds,
            callbacks=callbacks,
            verbose=workload.observed,
        )
