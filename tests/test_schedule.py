from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

import torchflow
from tests.small import columns, line, sgd, trainer
from torchflow import EpochEnded, Every, Plan, Schedule, Stepped, Validated
from torchflow.checkpoint.format import check_state, decode, encode
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.schedule import Scheduling, build

PLAN = Plan(5, 4, 20)


def optimizer(lr: float = 0.1, groups: int = 1) -> Optimizer:
    made = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr / (n + 1)} for n in range(groups)]
    return SGD(made, lr=lr, momentum=0.9)


def sequential(opt: Optimizer) -> LRScheduler:
    return SequentialLR(opt, [LinearLR(opt, 0.1, total_iters=3), CosineAnnealingLR(opt, 10)], milestones=[3])


SCHEDULERS: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "StepLR": lambda opt: StepLR(opt, 2, 0.5),
    "MultiStepLR": lambda opt: MultiStepLR(opt, [1, 3, 3], 0.5),
    "LambdaLR": lambda opt: LambdaLR(opt, lambda n: 0.9**n),
    "OneCycleLR": lambda opt: OneCycleLR(opt, 0.5, total_steps=40),
    "CosineAnnealingLR": lambda opt: CosineAnnealingLR(opt, 10),
    "CosineAnnealingWarmRestarts": lambda opt: CosineAnnealingWarmRestarts(opt, 3, 2),
    "ExponentialLR": lambda opt: ExponentialLR(opt, 0.8),
    "PolynomialLR": lambda opt: PolynomialLR(opt, 12, 2.0),
    "CyclicLR": lambda opt: CyclicLR(opt, 0.01, 0.1, step_size_up=4),
    "SequentialLR": sequential,
}


def rates(opt: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in opt.param_groups]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_by_epochs_moves_as_in_plain_torch(name: str) -> None:
    x, y = columns(12)
    seen: list[float] = []
    run = trainer(optimizer=sgd(0.1, momentum=0.9), scheduler=SCHEDULERS[name]).start(line(), (x, y), batch_size=4)
    for event in torchflow.events(run, epochs=8):
        if isinstance(event, EpochEnded):
            seen += rates(run.optimizer)
    plain = optimizer()
    scheduler, expected = SCHEDULERS[name](plain), []
    for _ in range(8):
        for _ in range(3):
            plain.step()
        scheduler.step()
        expected += rates(plain)
    assert seen == expected


@pytest.mark.parametrize("every", [1, 2, 5])
def test_one_cycle_by_updates_uses_the_plan_and_moves_as_in_plain_torch(every: int) -> None:
    plans: list[Plan] = []

    def recipe(opt: Optimizer, plan: Plan) -> LRScheduler:
        plans.append(plan)
        return OneCycleLR(opt, 0.5, total_steps=(plan.updates or 0) // every + 1)

    seen: list[float] = []

    class Watch(torchflow.Callback):
        def on_step_end(self, run: Any, event: Stepped) -> None:
            seen.append(event.learning_rates["main"])

    trainer(scheduler=Schedule(recipe, every=Every(updates=every)), optimizer=sgd(0.1, momentum=0.9), callbacks=[Watch()]).fit(
        line(), columns(18), batch_size=4, epochs=4
    )
    assert plans == [Plan(5, 4, 20)]
    plain = optimizer()
    scheduler, expected = OneCycleLR(plain, 0.5, total_steps=20 // every + 1), []
    for update in range(1, 21):
        expected += rates(plain)
        plain.step()
        if update % every == 0:
            scheduler.step()
    assert seen == expected


@pytest.mark.parametrize(
    ("fit", "accumulate", "plan"),
    [
        ({"epochs": 3}, 1, Plan(5, 3, 15)),
        ({"epochs": 3}, 2, Plan(3, 3, 9)),
        ({"epochs": 3, "max_updates": 7}, 1, Plan(5, 3, 7)),
        ({"max_updates": 70}, 1, Plan(5, None, 70)),
        ({"max_seconds": 0.01}, 1, Plan(5, None, None)),
    ],
)
def test_the_plan_knows_the_updates_to_come(fit: dict[str, Any], accumulate: int, plan: Plan) -> None:
    plans: list[Plan] = []

    def recipe(opt: Optimizer, plan: Plan) -> LRScheduler:
        plans.append(plan)
        return StepLR(opt, 1)

    trainer(scheduler=Schedule(recipe), accumulate=accumulate).fit(line(), columns(18), batch_size=4, **fit)
    assert plans == [plan]


@pytest.mark.parametrize("metric", ["valid/loss", "train/loss"])
def test_a_plateau_rule_gets_its_metric_and_moves_as_in_plain_torch(metric: str) -> None:
    def recipe(opt: Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(opt, factor=0.5, patience=1, threshold=0.5)

    made = trainer(optimizer=sgd(0.3), scheduler=Schedule(lambda opt, plan: recipe(opt), Every(epochs=1), metric))
    run = made.start(line(), columns(12), batch_size=4, validation=columns(8, seed=1))
    ends = (event for event in torchflow.events(run, epochs=10) if isinstance(event, EpochEnded))
    seen = [(event.metrics[metric], run.optimizer.param_groups[0]["lr"]) for event in ends]
    plain = optimizer(0.3)
    scheduler = recipe(plain)
    for value, rate in seen:
        scheduler.step(value)
        assert rate == plain.param_groups[0]["lr"]
    assert seen[-1][1] < 0.3


def test_a_plateau_rule_steps_at_every_validation_of_its_stream() -> None:
    made = trainer(scheduler=Schedule(lambda opt, plan: ReduceLROnPlateau(opt, patience=0, threshold=0.99), metric="valid/loss"))
    run = made.start(line(), columns(12), batch_size=2, validation=columns(8, seed=1), validate=Every(updates=2))
    steps = [run.schedulings["main"].scheduler.last_epoch for e in torchflow.events(run, epochs=1) if isinstance(e, Validated)]
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("groups", [1, 3])
def test_a_schedulers_state_goes_round_and_moves_on_alike(name: str, groups: int) -> None:
    def scheduling() -> Scheduling:
        return build(SCHEDULERS[name], optimizer(groups=groups), PLAN)

    first, second = scheduling(), scheduling()
    for _ in range(4):
        first.step()
    state = first.state()
    check_state(state)
    encoded = encode({"s": state})
    second.load_state(decode(encoded.text, {}, "here")["s"] if not encoded.tensors else copy.deepcopy(state))
    for group, other in zip(second.scheduler.optimizer.param_groups, first.scheduler.optimizer.param_groups, strict=True):
        group.update({key: value for key, value in other.items() if key != "params"})
    for _ in range(9):
        first.step()
        second.step()
        assert rates(second.scheduler.optimizer) == rates(first.scheduler.optimizer)
    assert second.state() == first.state()


def test_integer_keys_come_back_as_integers() -> None:
    first, second = (build(lambda opt: MultiStepLR(opt, [2, 4, 4]), optimizer(), PLAN) for _ in range(2))
    assert "milestones" in first.state()
    second.load_state(first.state())
    milestones: Any = second.scheduler.state_dict()["milestones"]
    assert dict(milestones) == {2: 1, 4: 2}
    assert type(milestones) is type(first.scheduler.state_dict()["milestones"])


def test_the_state_of_a_plateau_rule_goes_round() -> None:
    def make() -> Scheduling:
        return build(
            Schedule(lambda opt, plan: ReduceLROnPlateau(opt, patience=1), Every(epochs=1), "valid/loss"), optimizer(), PLAN
        )

    first, second = make(), make()
    for value in (3.0, 2.0, 2.0):
        first.step(value)
    second.load_state(first.state())
    for value in (2.0, 2.0, 1.0, 1.0, 1.0, 1.0):
        first.step(value)
        second.step(value)
        assert rates(second.scheduler.optimizer) == rates(first.scheduler.optimizer)
    assert rates(first.scheduler.optimizer)[0] < 0.1


def test_a_value_that_no_checkpoint_can_hold_stays_in_code() -> None:
    class Strange(StepLR):
        def __init__(self, opt: Optimizer) -> None:
            self.helper = object()
            self.table = {(1, 2): 3}
            super().__init__(opt, 2)

    scheduling = build(Strange, optimizer(), PLAN)
    assert not {"helper", "table"} & scheduling.state().keys()
    scheduling.load_state(scheduling.state())
    assert isinstance(scheduling.scheduler, Strange)
    assert type(scheduling.scheduler.helper) is object


def test_a_schedule_is_made_of_a_function_and_an_interval_of_updates_or_epochs() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Schedule's recipe must be a function, got 3 \(int\)\. Write Schedule\(lambda"):
        Schedule(3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"Schedule\(every=…\) must be an interval such as Every\(updates=1\), got 3"):
        Schedule(lambda opt, plan: StepLR(opt, 1), every=3)  # type: ignore[arg-type]
    for every in (Every(samples=5), Every(seconds=5)):
        with pytest.raises(
            ArgumentValueError, match=rf"a scheduler steps by updates or epochs, got {every}\. Write Every\(updates=1\)"
        ):
            Schedule(lambda opt, plan: StepLR(opt, 1), every=every)


def test_what_is_no_scheduler_of_this_optimizer_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="scheduler must be a recipe that returns an LRScheduler, but it returned None"):
        build(lambda opt: None, optimizer(), PLAN)  # type: ignore[arg-type, return-value]
    with pytest.raises(ArgumentValueError, match="scheduler returned a scheduler of another optimizer"):
        build(lambda opt: StepLR(optimizer(), 1), optimizer(), PLAN)
    with pytest.raises(ArgumentTypeError, match=r"is a ReduceLROnPlateau, which wants a metric\. Write scheduler=Schedule"):
        build(ReduceLROnPlateau, optimizer(), PLAN)
    with pytest.raises(ArgumentTypeError, match=r"is a StepLR, whose step takes no metric\. Leave out metric='train/loss'"):
        build(Schedule(lambda opt, plan: StepLR(opt, 1), metric="train/loss"), optimizer(), PLAN)


@pytest.mark.parametrize("metric", ["loss", "", 3, "valid/", "/loss"])
def test_a_metric_is_a_full_name(metric: Any) -> None:
    with pytest.raises(
        ArgumentValueError, match=r"Schedule\(metric=…\) must be the full name of a metric such as 'valid/loss', got"
    ):
        Schedule(lambda opt, plan: ReduceLROnPlateau(opt), metric=metric)


@pytest.mark.parametrize("metric", ["valid/lss", "train/lss"])
def test_a_metric_that_does_not_come_is_named_with_those_that_do(metric: str) -> None:
    made = trainer(scheduler=Schedule(lambda opt, plan: ReduceLROnPlateau(opt), metric=metric))
    with pytest.raises(
        ArgumentValueError, match=rf"Schedule\(metric='{metric}'\) finds no such metric; there are '{metric[:5]}/loss'"
    ):
        made.fit(line(), columns(), epochs=1, validation=columns(8, seed=1))
