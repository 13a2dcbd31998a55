"""Keras 3 on torch: the same layers with the same first weights, and its own optimizers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import torch
from torch import Tensor, nn

from benchmarks.contestants.peers.loading import train_loader, valid_loader
from benchmarks.gate import Gate
from benchmarks.workloads import RATES, Workload


class Turns(keras.callbacks.Callback):
    """Waits at a gate before each epoch."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Wait for the turn."""
        self._gate.begin(self._predict)

    def _predict(self, inputs: Tensor) -> Tensor:
        predictions: Tensor = self.model(inputs)
        return predictions


def train(workload: Workload, gate: Gate) -> None:
    """Train with ``compile`` and ``fit``."""
    keras.config.set_image_data_format("channels_first")
    model = _translated(workload)
    optimizer = (
        keras.optimizers.Adam(RATES[workload.name], epsilon=1e-8)
        if workload.name in ("W2", "W4")
        else keras.optimizers.SGD(RATES[workload.name], 0.9 if workload.name == "W3" else 0.0)
    )
    classes = workload.name == "W3"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if classes else "mse"
    model.compile(optimizer=optimizer, loss=loss, metrics=["mae"] if workload.observed else None)
    with tempfile.TemporaryDirectory() as folder:
        callbacks: list[Any] = [Turns(gate)]
        if workload.observed:
            callbacks.append(keras.callbacks.ModelCheckpoint(Path(folder) / "best.keras", save_best_only=True))
        model.fit(
            train_loader(workload, peeks=1),
            epochs=gate.rounds,
            validation_data=valid_loader(workload),
            callbacks=callbacks,
            verbose=1 if workload.observed else 0,
        )


def _translated(workload: Workload) -> Any:
    """Return a Keras model of the layers of the workload's model, with its first weights."""
    layers = [keras.Input(tuple(workload.train[0].shape[1:]))]
    values: list[Tensor | None] = []
    modules = [workload.model()] if isinstance(workload.model(), nn.Linear) else list(workload.model().children())
    for module in modules:
        layers.append(_layer(module))
        if isinstance(module, nn.Linear):
            values += [module.weight.T, module.bias]
        elif isinstance(module, nn.Conv2d):
            values += [module.weight.permute(2, 3, 1, 0), module.bias]
    model = keras.Sequential(layers)
    model.set_weights([torch.as_tensor(value).detach().numpy() for value in values])
    return model


def _layer(module: nn.Module) -> Any:
    if isinstance(module, nn.Linear):
        return keras.layers.Dense(module.out_features)
    if isinstance(module, nn.Conv2d):
        return keras.layers.Conv2D(module.out_channels, 3, padding="same")
    if isinstance(module, nn.MaxPool2d):
        return keras.layers.MaxPooling2D(2)
    return keras.layers.Flatten() if isinstance(module, nn.Flatten) else keras.layers.ReLU()
