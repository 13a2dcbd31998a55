"""Skorch: a network with scikit-learn's face."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, EpochScoring, ProgressBar
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset

from benchmarks.contestants.loops import Ordered
from benchmarks.gate import Gate
from benchmarks.workloads import Workload


class Turns(Callback):
    """Waits at a gate before each epoch."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        """Wait for the turn."""
        self._gate.begin(net.module_)


def train(workload: Workload, gate: Gate) -> None:
    """Train with ``fit``."""
    model = workload.model()
    optimizer = workload.optimizer(model)
    with tempfile.TemporaryDirectory() as folder:
        callbacks: list[Any] = [("turns", Turns(gate))]
        if workload.observed:
            callbacks += [
                ("error", EpochScoring(_negative_error, name="valid_error", lower_is_better=False)),
                ("bar", ProgressBar(detect_notebook=False)),
                ("best", Checkpoint(monitor="valid_loss_best", dirname=folder)),
            ]
        net = NeuralNet(
            model,
            criterion=workload.loss(),
            optimizer=lambda *_, **__: optimizer,
            max_epochs=gate.rounds,
            batch_size=workload.batch,
            iterator_train__sampler=Ordered(workload),
            train_split=None if workload.valid is None else predefined_split(TensorDataset(*workload.valid)),
            callbacks=callbacks,
            verbose=0,
        )
        net.fit(TensorDataset(*workload.train), y=None)


def _negative_error(net: Any, data: Any, targets: Any) -> float:
    """Return the metric of the validation rows, from the predictions that the pass has made."""
    predictions = torch.as_tensor(net.predict(data))
    return -float((predictions - torch.as_tensor(targets).reshape(predictions.shape)).abs().mean())
