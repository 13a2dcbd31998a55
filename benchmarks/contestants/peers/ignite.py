"""Ignite: its supervised trainer and evaluator."""

from __future__ import annotations

import tempfile
from typing import Any

from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import ModelCheckpoint
from ignite.handlers.tqdm_logger import ProgressBar
from ignite.metrics import Loss, MeanAbsoluteError

from benchmarks.contestants.peers.loading import train_loader, valid_loader
from benchmarks.gate import Gate
from benchmarks.quiet import Null
from benchmarks.workloads import Workload


def train(workload: Workload, gate: Gate) -> None:
    """Train with an engine."""
    model, loss = workload.model(), workload.loss()
    choices: dict[str, Any] = {}
    if workload.observed:
        choices["output_transform"] = lambda x, y, predictions, loss: (predictions.detach(), y, loss.item())
    trainer = create_supervised_trainer(model, workload.optimizer(model), loss, **choices)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: gate.begin(model))
    with tempfile.TemporaryDirectory() as folder:
        if workload.observed:
            MeanAbsoluteError(output_transform=lambda output: output[:2]).attach(trainer, "error")
            ProgressBar(file=Null()).attach(trainer, output_transform=lambda output: {"loss": output[2]})
            evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(loss), "error": MeanAbsoluteError()})
            best = ModelCheckpoint(folder, n_saved=1, score_function=_negative_loss, require_empty=False)
            evaluator.add_event_handler(Events.COMPLETED, best, {"model": model})
            valid = valid_loader(workload)
            trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(valid))
        trainer.run(train_loader(workload), max_epochs=gate.rounds)


def _negative_loss(engine: Engine) -> float:
    return -float(engine.state.metrics["loss"])
