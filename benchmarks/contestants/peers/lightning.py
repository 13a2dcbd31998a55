"""Lightning: bare, with everything switched off that can be, and with its defaults."""

from __future__ import annotations

import tempfile
from typing import Any

import lightning as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.contestants.peers.loading import train_loader, valid_loader
from benchmarks.gate import Gate
from benchmarks.workloads import Workload


class Module(pl.LightningModule):
    """The model with its loss, as Lightning wants it."""

    def __init__(self, workload: Workload, *, logs: bool) -> None:
        super().__init__()
        self.model, self.loss, self._workload, self._logs = workload.model(), workload.loss(), workload, logs

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Return the loss."""
        inputs, targets = batch
        predictions = self.model(inputs)
        loss: Tensor = self.loss(predictions, targets)
        if self._logs:
            self.log("train/loss", loss, prog_bar=True)
        if self._workload.observed:
            self.log("train/error", (predictions - targets).abs().mean(), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """Log the loss and the metric."""
        inputs, targets = batch
        predictions = self.model(inputs)
        self.log("valid/loss", self.loss(predictions, targets))
        self.log("valid/error", (predictions - targets).abs().mean())

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer of the loop by hand."""
        return self._workload.optimizer(self.model)


class Turns(Callback):
    """Waits at a gate before each epoch."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Wait for the turn."""
        self._gate.begin(module.model)


def train(workload: Workload, gate: Gate, *, bare: bool) -> None:
    """Train with a Trainer."""
    callbacks: list[Callback] = [Turns(gate)]
    if workload.observed:
        callbacks.append(ModelCheckpoint(monitor="valid/loss"))
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=gate.rounds,
            callbacks=callbacks,
            default_root_dir=folder,
            num_sanity_val_steps=0,
            **(off if bare else {}),
        )
        trainer.fit(Module(workload, logs=not bare), train_loader(workload), valid_loader(workload))
