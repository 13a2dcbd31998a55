"""Before the run: plans, rehearsals, summaries, learning rates, batch sizes, schedules, and what verifies a job."""

from __future__ import annotations

from typing import Any, assert_type

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import (
    BatchSizes,
    Every,
    LearningRateTest,
    Rehearsal,
    RunPlan,
    Schedule,
    Summary,
    Trainer,
    find_batch_size,
    find_learning_rate,
    layer_wise,
    one_cycle,
    summary,
    warm_up_cosine,
)
from torchflow.data import Dataset
from torchflow.testing import Job, Kill, Report, verify_observers, verify_resume

Pair = tuple[Tensor, Tensor]


def right_trials(trainer: Trainer[nn.Linear, Pair], model: nn.Linear, points: Dataset[Pair]) -> None:
    assert_type(trainer.plan(model, points, epochs=3, batch_size=8, validation=points), RunPlan)
    assert_type(trainer.plan(model, points, max_updates=3).seconds_per_update, float)
    assert_type(trainer.rehearse(lambda: nn.Linear(1, 1), points, epochs=3, last_batch="pad"), Rehearsal)
    assert_type(trainer.rehearse(model, points, epochs=3).ok, bool)
    assert_type(summary(model, torch.ones(2, 1)), Summary)
    assert_type(summary(model, {"x": torch.ones(2, 1)}, forward=lambda model, inputs: model(inputs["x"])).trained, int)


def right_finders(trainer: Trainer[nn.Linear, Pair], model: nn.Linear, points: Dataset[Pair]) -> None:
    found = find_learning_rate(trainer, model, points, lowest=1e-6, updates=50, batch_size=8)
    assert_type(found, LearningRateTest)
    assert_type(found.suggestion, float | None)
    assert_type(found.plot("rates.png"), Figure)
    assert_type(find_batch_size(trainer, model, points, start=8, limit=64), BatchSizes)
    assert_type(find_batch_size(trainer, lambda: nn.Linear(1, 1), points).largest, int)


def right_schedules(model: nn.Linear) -> None:
    assert_type(warm_up_cosine(0.05, lowest=1e-5), Schedule)
    assert_type(one_cycle(0.1, momentum=(0.85, 0.95)), Schedule)
    Schedule(lambda optimizer, plan: torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=plan.updates or 1))
    torch.optim.SGD(layer_wise(model, 0.1, layers=["bias", ["weight"]]))


def right_jobs(trainer: Trainer[nn.Linear, Pair], points: Dataset[Pair]) -> None:
    def job() -> Job:
        return Job(trainer, nn.Linear, points, {"epochs": 2})

    assert_type(verify_resume(job, kills=[3, Kill(5, middle=True)], every=Every(updates=1)), Report)
    assert_type(verify_observers(job, ignore=["metrics"]).equal, bool)


def wrong_trials(trainer: Trainer[nn.Linear, Pair], model: nn.Linear, points: Dataset[Pair]) -> None:
    trainer.plan(model)  # type: ignore[call-arg]
    trainer.plan(model, points, steps=3)  # type: ignore[call-arg]  # max_updates
    trainer.plan(model, points, epochs="3")  # type: ignore[arg-type]
    trainer.rehearse(model, points, 3)  # type: ignore[call-arg]
    trainer.rehearse(model, points, epochs=3, last_batch="skip")  # type: ignore[arg-type]
    trainer.rehearse(model, points, epochs=3, validate="epoch")  # type: ignore[arg-type]
    trainer.rehearse(model, points, epochs=3).ok()  # type: ignore[operator]  # a value
    summary(model)  # type: ignore[call-arg]  # of which inputs?
    summary(torch.ones(2, 1), torch.ones(2, 1))  # type: ignore[type-var]
    summary(model, torch.ones(2, 1), forward=lambda model: model)  # type: ignore[arg-type, misc]


def wrong_finders(trainer: Trainer[nn.Linear, Pair], model: nn.Linear, points: Dataset[Pair]) -> None:
    find_learning_rate(model, points)  # type: ignore[call-arg, arg-type]  # of which trainer?
    find_learning_rate(trainer, model, points, updates=0.5)  # type: ignore[arg-type]
    find_learning_rate(trainer, model, points, epochs=3)  # type: ignore[call-arg]
    find_learning_rate(trainer, model, points).suggestion * 0.1  # type: ignore[operator]  # None where there is none
    find_batch_size(trainer, model, points, 32)  # type: ignore[call-arg]
    find_batch_size(trainer, model, points, limit="64")  # type: ignore[arg-type]
    find_batch_size(trainer, model, points, batch_size=8)  # type: ignore[call-arg]  # that is the question
    find_batch_size(trainer, model, points) * 2  # type: ignore[operator]  # .largest


def wrong_schedules(model: nn.Linear) -> None:
    warm_up_cosine("5%")  # type: ignore[arg-type]
    one_cycle(momentum=0.9)  # type: ignore[arg-type]  # the lowest and the highest
    Schedule(lambda optimizer: 0.1)  # type: ignore[arg-type, misc]  # without the plan
    Schedule(lambda optimizer, plan: 0.1)  # type: ignore[arg-type, return-value]
    layer_wise(model)  # type: ignore[call-arg]  # which rate?
    layer_wise(model.parameters(), 0.1)  # type: ignore[arg-type]


def wrong_jobs(job: Job, anything: Any) -> None:
    verify_resume(job)  # type: ignore[arg-type]  # the function that makes it
    verify_resume(lambda: None)  # type: ignore[arg-type, return-value]
    verify_resume(anything, kills=3)  # type: ignore[arg-type]
    verify_observers(anything, ignore=0)  # type: ignore[arg-type]
    Job()  # type: ignore[call-arg]
    Kill("3")  # type: ignore[arg-type]
