"""The Trainer of transformers, on a model that is no transformer."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks.contestants.peers.loading import train_loader
from benchmarks.gate import Gate
from benchmarks.workloads import Workload


class Losing(nn.Module):
    """The model as this Trainer wants it: it returns its loss."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.model, self.loss = workload.model(), workload.loss()

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return loss and predictions."""
        predictions = self.model(inputs)
        return {"loss": self.loss(predictions, labels), "logits": predictions}


class Named(Dataset[dict[str, Tensor]]):
    """Rows by the names of the arguments of ``forward``."""

    def __init__(self, columns: tuple[Tensor, Tensor]) -> None:
        self._inputs, self._labels = columns

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self._inputs[index], "labels": self._labels[index]}


class Ordering(Trainer):
    """The Trainer on the workload's own order."""

    workload: Workload

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of every peer, with names."""
        sampler = train_loader(self.workload).sampler
        loader = DataLoader(Named(self.workload.train), batch_size=self.workload.batch, sampler=sampler)
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared


class Turns(TrainerCallback):
    """Waits at a gate before each epoch."""

    def __init__(self, gate: Gate, model: nn.Module) -> None:
        self._gate, self._model = gate, model

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the turn."""
        self._gate.begin(self._model)


def train(workload: Workload, gate: Gate) -> None:
    """Train with everything off that the workload does not ask for."""
    model = Losing(workload)
    optimizer = workload.optimizer(model)
    watching = {"eval_strategy": "epoch", "save_strategy": "best", "metric_for_best_model": "loss", "save_total_limit": 1}
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            use_cpu=True,
            num_train_epochs=gate.rounds,
            per_device_train_batch_size=workload.batch,
            per_device_eval_batch_size=workload.batch,
            max_grad_norm=0,
            report_to=[],
            disable_tqdm=not workload.observed,
            dataloader_pin_memory=False,
            **(
                watching | {"logging_strategy": "epoch"} if workload.observed else {"save_strategy": "no", "logging_strategy": "no"}
            ),
        )
        trainer = Ordering(
            model,
            settings,
            train_dataset=Named(workload.train),
            eval_dataset=None if workload.valid is None else Named(workload.valid),
            optimizers=(optimizer, LambdaLR(optimizer, lambda _: 1.0)),
            callbacks=[Turns(gate, model.model)],
            compute_metrics=_error if workload.observed else None,
        )
        trainer.workload = workload
        trainer.train()


def _error(evaluation: Any) -> dict[str, float]:
    predictions, labels = (torch.as_tensor(part) for part in (evaluation.predictions, evaluation.label_ids))
    return {"error": float((predictions - labels).abs().mean())}
