"""Events: what the loop yields, told apart by match; what each holds; intervals and progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never, assert_type

from torch import Tensor, nn

from torchflow import EpochEnded, EpochStarted, Event, Every, Finished, Plan, Progress, Run, Started, Stepped, Validated, events

Pair = tuple[Tensor, Tensor]


def right_events(run: Run[nn.Linear, Pair]) -> None:
    for event in events(run, epochs=20, max_updates=100, max_seconds=0.5):
        assert_type(event, Event)
        assert_type(event.progress, Progress)  # every event has it
        match event:
            case Started(plan=plan):
                assert_type(plan, Plan)
            case EpochStarted(progress=progress):
                assert_type(progress.epoch, int)
            case Stepped(loss=loss, metrics=metrics):
                assert_type(loss, Tensor)
                assert_type(metrics, Mapping[str, Tensor])
                assert_type(event.learning_rates["main"], float)
                assert_type(event.losses, Tensor)
                assert_type(event.count, int | Tensor)
            case Validated() | EpochEnded():
                assert_type(event.metrics, Mapping[str, float])
            case Finished():
                assert_type(event.reason, str)
                assert_type(event.complete, bool)
            case _:
                assert_never(event)  # these were all


def right_intervals(progress: Progress, plan: Plan) -> None:
    assert_type(Every(epochs=1).epochs, int | None)
    assert_type(Every(seconds=600).reached(progress, progress), bool)
    assert_type(progress.samples, int)
    assert_type(plan.updates_per_epoch, int | None)


def wrong_events(run: Run[nn.Linear, Pair], stepped: Stepped, ended: EpochEnded, event: Event) -> None:
    events(run, 20)  # type: ignore[call-arg]  # of what?
    events(run, epochs=0.5)  # type: ignore[arg-type]
    events(run.model, epochs=20)  # type: ignore[arg-type]
    event.metrics  # type: ignore[union-attr]  # not every event has some
    stepped.loss = stepped.losses  # type: ignore[misc]  # facts do not change
    ended.progress = Progress()  # type: ignore[misc]
    ended.metrics["valid/loss"] = 0.0  # type: ignore[index]
    ended.loss  # type: ignore[attr-defined]  # metrics["train/loss"]
    ended.metrics["valid/loss"].item()  # type: ignore[attr-defined]  # a float already
    stepped.learning_rates.append(0.1)  # type: ignore[attr-defined]  # by the optimizer's name
    stepped.group.mean()  # type: ignore[union-attr]  # None where updates are not grouped
    run.progress.updates = 5  # type: ignore[misc]


def wrong_intervals(progress: Progress) -> None:
    Every(5)  # type: ignore[call-arg]  # of what?
    Every(epochs="1")  # type: ignore[arg-type]
    Every(steps=5)  # type: ignore[call-arg]  # updates
    Every(updates=0.5)  # type: ignore[arg-type]
    Every(epochs=1).epochs = 2  # type: ignore[misc]
    Every(epochs=1).reached(5, 6)  # type: ignore[arg-type]
    progress.step  # type: ignore[attr-defined]  # updates
