"""Trainer: what it is made of, and what fit, start, evaluate and predict take."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor, nn

from torchflow import Checkpoints, EarlyStopping, Every, Outputs, Result, Resume, Run, Schedule, Trainer, Updates, data, supervised
from torchflow.data import Dataset

Pair = tuple[Tensor, Tensor]


def step(model: nn.Linear, batch: Pair) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def halving(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)


def own_update(run: Run[nn.Linear, Pair], batches: list[Pair]) -> Tensor:
    return run.step(run.model, batches[0])  # type: ignore[return-value]  # a step may return Outputs too


def right_trainers(model: nn.Linear) -> None:
    # The model and the batch of a Trainer are those of its step.
    assert_type(Trainer(step, optimizer=sgd), Trainer[nn.Linear, Pair])
    Trainer(step, optimizer=lambda model: torch.optim.Adam(model.parameters()))
    Trainer(step, optimizer=sgd(model))
    Trainer(step, optimizer={"weights": sgd, "bias": sgd(model)})
    Trainer(step, optimizer=sgd, scheduler=halving)
    Trainer(step, optimizer=sgd, scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9))
    Trainer(step, optimizer=sgd, scheduler=Schedule(lambda optimizer, plan: halving(optimizer), every=Every(epochs=1)))
    Trainer(step, optimizer=sgd, callbacks=[EarlyStopping("valid/loss")], checkpoints="runs/line")
    Trainer(step, optimizer=sgd, callbacks={"early": EarlyStopping("valid/loss")}, checkpoints=Checkpoints(Path("runs")))
    Trainer(step, optimizer=sgd, accumulate=2, clip_norm=1, clip_value=0.5, nonfinite="skip", device=torch.device("cpu"))
    Trainer(step, optimizer=sgd, compile=Updates("epoch"), deterministic=True, seed=1, memory_format="channels_last")
    Trainer(step, optimizer=sgd, microbatch=32)
    Trainer(step, optimizer=sgd, microbatch="auto")
    # supervised() works for every model; whoever wants the model's own type says so.
    narrow: Trainer[nn.Linear, Pair] = Trainer(supervised(nn.MSELoss()), optimizer=sgd)
    assert_type(narrow.fit(model, data.linear(), epochs=1), Result[nn.Linear])


def right_calls(trainer: Trainer[nn.Linear, Pair], model: nn.Linear, points: Dataset[Pair], loader: list[Pair]) -> None:
    assert_type(trainer.fit(model, points, epochs=1), Result[nn.Linear])
    assert_type(trainer.fit(lambda: nn.Linear(1, 1), points, max_updates=1), Result[nn.Linear])
    trainer.fit(model, points, max_seconds=0.5, batch_size=8, shuffle=data.Bucketed(), last_batch="drop")
    trainer.fit(model, points, epochs=1, validation=points, validate=Every(updates=10), resume=True)
    trainer.fit(model, points, epochs=1, validation={"near": points, "far": points}, resume=Resume(override=["lr"]))
    trainer.fit(model, points, epochs=1, workers=data.Workers(2, start="spawn"), collate=lambda samples: samples[0])
    trainer.fit(model, (torch.ones(4, 1), torch.ones(4, 1)), epochs=1)
    trainer.fit(model, {"x": torch.ones(4, 1), "y": torch.ones(4, 1)}, epochs=1)
    trainer.fit(model, iter(loader), max_updates=2)
    assert_type(trainer.start(model, points, batch_size=8, validation=points), Run[nn.Linear, Pair])
    assert_type(trainer.evaluate(model, points, workers=1), dict[str, float])
    assert_type(trainer.evaluate(model, {"near": points, "far": (torch.ones(4, 1), torch.ones(4, 1))}), dict[str, float])
    predictions: Tensor = trainer.predict(model, points, forward=lambda model, batch: Outputs(model(batch[0])).loss)
    assert_type(predictions, Tensor)


def wrong_trainers(model: nn.Linear) -> None:
    Trainer(step)  # type: ignore[call-arg]  # no optimizer
    Trainer(step, sgd)  # type: ignore[call-arg]  # by position
    Trainer(model, optimizer=sgd, schedule=halving)  # type: ignore[call-arg]  # it is called scheduler
    Trainer(None, optimizer=sgd)  # type: ignore[arg-type]
    Trainer(step, optimizer=torch.optim.SGD)  # type: ignore[arg-type]  # a class, which wants parameters
    Trainer(step, optimizer="sgd")  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, microbatch="largest")  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, microbatch=0.5)  # type: ignore[arg-type]
    Trainer(step, optimizer=lambda model: model)  # type: ignore[arg-type, return-value]
    Trainer(step, optimizer=lambda: sgd(model))  # type: ignore[arg-type, misc]  # without the model
    Trainer(step, optimizer=sgd, scheduler=torch.optim.SGD)  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, scheduler=0.9)  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, callbacks=EarlyStopping("valid/loss"))  # type: ignore[arg-type]  # not a list
    Trainer(step, optimizer=sgd, callbacks=[EarlyStopping])  # type: ignore[list-item]  # the class
    Trainer(step, optimizer=sgd, callbacks=[print])  # type: ignore[list-item]
    Trainer(step, optimizer=sgd, accumulate=0.5)  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, accumulate=None)  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, clip_norm="1.0")  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, nonfinite="ignore")  # type: ignore[arg-type]  # "raise" or "skip"
    Trainer(step, optimizer=sgd, compile=32)  # type: ignore[arg-type]  # Updates(32)
    Trainer(step, optimizer=sgd, compile=Updates(0.5))  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, compile=Updates("run"))  # type: ignore[arg-type]  # only "epoch" is a word
    Trainer(step, optimizer=sgd, memory_format="channels last")  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, seed="0")  # type: ignore[arg-type]
    Trainer(step, optimizer=sgd, device=0)  # type: ignore[arg-type]  # "cuda:0"
    Trainer(step, optimizer=sgd, update=step)  # type: ignore[arg-type]  # an update takes the run and its batches


def wrong_calls(trainer: Trainer[nn.Linear, Pair], model: nn.Linear, points: Dataset[Pair], other: nn.Conv1d) -> None:
    trainer.fit(model)  # type: ignore[call-arg]  # no data
    trainer.fit(model, points, 10)  # type: ignore[call-arg]  # of what?
    trainer.fit(lambda: other, points, epochs=1)  # type: ignore[arg-type, return-value]
    trainer.fit(model, 5, epochs=1)  # type: ignore[arg-type]  # no data
    trainer.fit(model, torch.ones, epochs=1)  # type: ignore[arg-type]
    trainer.fit(model, points, epochs="1")  # type: ignore[arg-type]
    trainer.fit(model, points, epochs=1.5)  # type: ignore[arg-type]
    trainer.fit(model, points, epochs=1, batch_size=32.0)  # type: ignore[arg-type]
    trainer.fit(model, points, epochs=1, last_batch="skip")  # type: ignore[arg-type]
    trainer.fit(model, points, epochs=1, validate=1)  # type: ignore[arg-type]  # Every(epochs=1)
    trainer.fit(model, points, epochs=1, workers="2")  # type: ignore[arg-type]
    trainer.fit(model, points, epochs=1, workers=data.Workers(2, start="thread"))  # type: ignore[arg-type]
    trainer.fit(model, points, epochs=1, shuffle="no")  # type: ignore[arg-type]
    trainer.fit(model, points, epochs=1, resume="runs/line")  # type: ignore[arg-type]
    trainer.fit(model, points, epochs=1, collate=lambda samples: None)  # type: ignore[arg-type, return-value]
    trainer.fit(model, points, epochs=1, lr=0.1)  # type: ignore[call-arg]
    trainer.fit(model, points, max_epochs=1)  # type: ignore[call-arg]
    trainer.start(model, points, epochs=1)  # type: ignore[call-arg]  # the duration belongs to events
    trainer.evaluate(lambda: model, points)  # type: ignore[arg-type]  # nothing was trained yet
    trainer.evaluate(other, points)  # type: ignore[arg-type]
    trainer.evaluate(model, 5)  # type: ignore[arg-type]
    trainer.predict(model, points, forward=lambda model: model)  # type: ignore[arg-type, misc]
