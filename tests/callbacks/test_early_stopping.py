from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from torchflow.callbacks import EarlyStopping, Stop
from torchflow.errors import ArgumentTypeError, ArgumentValueError, MismatchError
from torchflow.events import EpochEnded, Finished, Validated
from torchflow.intervals import Every, Progress


@dataclass
class Watched:
    """As much of a run as early stopping looks at."""

    model: nn.Module = field(default_factory=lambda: nn.Linear(2, 1))
    streams: tuple[str, ...] = ("train", "valid", "other")


def at(epoch: int) -> Progress:
    return Progress(epoch, 4, 4 * (epoch + 1), 32 * (epoch + 1), 4 * (epoch + 1))


def feed(stopping: EarlyStopping, values: list[float], run: Any = None, first: int = 0) -> Stop | None:
    """Judge values at the ends of epochs; the model's weights are the value's position."""
    run = run or Watched()
    for epoch, value in enumerate(values, first):
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.fill_(epoch)
        if stop := stopping.on_validation_end(run, Validated(at(epoch), {"valid/loss": value})):
            return stop
    return None


def ended(*, complete: bool = True) -> Finished:
    return Finished(at(9), "the end", complete)


def test_a_run_without_the_metrics_stream_is_refused_with_the_remedy() -> None:
    run: Any = Watched(streams=("train",))
    with pytest.raises(ArgumentValueError) as raised:
        EarlyStopping("valid/loss").check(run)
    assert str(raised.value) == (
        "EarlyStopping('valid/loss') needs a stream named 'valid'; this run has 'train'. "
        "Pass validation=… to fit, or a mapping validation={'valid': …}, or name a metric of a stream it has."
    )
    EarlyStopping("train/loss").check(run)


def test_a_metric_that_does_not_come_is_refused_with_the_names_that_do() -> None:
    run: Any = Watched()
    with pytest.raises(ArgumentValueError) as raised:
        EarlyStopping("valid/acuracy").on_validation_end(run, Validated(at(0), {"valid/loss": 1.0, "valid/accuracy": 0.5}))
    assert str(raised.value) == "EarlyStopping('valid/acuracy') finds no such metric; there are 'valid/loss', 'valid/accuracy'."
    with pytest.raises(ArgumentValueError, match="finds no such metric; there are 'train/loss'"):
        EarlyStopping("train/accuracy").on_epoch_end(run, EpochEnded(at(0), {"train/loss": 1.0}))


def test_validation_metrics_are_judged_once_and_at_the_validation() -> None:
    run: Any = Watched()
    stopping = EarlyStopping("valid/loss")
    stopping.on_validation_end(run, Validated(at(0), {"valid/loss": 1.0}))
    assert stopping.on_epoch_end(run, EpochEnded(at(0), {"train/loss": 2.0, "valid/loss": 1.0})) is None
    assert stopping.on_validation_end(run, Validated(at(0), {"other/loss": 1.0})) is None
    assert stopping.judged.seen == 1


def test_train_metrics_are_judged_at_the_epochs_end() -> None:
    run: Any = Watched()
    stopping = EarlyStopping("train/loss", target=0.5)
    assert stopping.on_validation_end(run, Validated(at(0), {"train/loss": 0.0})) is None
    assert stopping.on_epoch_end(run, EpochEnded(at(0), {"train/loss": 0.5})) == Stop(
        "train/loss reached the target 0.5 (0.5 at epoch 1)"
    )


def test_the_reason_is_kept() -> None:
    stopping = EarlyStopping("valid/loss", patience=2)
    assert stopping.reason is None
    feed(stopping, [0.5, 0.6])
    assert stopping.reason is None
    stop = feed(stopping, [0.6], first=2)
    assert stop is not None
    assert stopping.reason == stop.reason == "valid/loss has not improved for 2 epochs (best 0.5 at epoch 1)"


@pytest.mark.parametrize("restore_best", [False, True])
@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, math.inf], [-math.inf, 0.0], [0.1, 0.2, math.nan]])
def test_a_state_comes_back_exactly(values: list[float], restore_best: bool) -> None:
    first, second = (EarlyStopping("valid/loss", nan="ignore", restore_best=restore_best) for _ in range(2))
    feed(first, values)
    second.load_state(first.state())
    assert repr(second.judged) == repr(first.judged)
    one, other = dict(first.state()), dict(second.state())
    weights, copies = one.pop("weights"), other.pop("weights")
    assert repr(one) == repr(other)
    assert (weights is None) == (copies is None) == (not restore_best or first.judged.best is None)
    if isinstance(weights, dict) and isinstance(copies, dict):
        assert all(torch.equal(weights[name], copies[name]) and weights[name] is not copies[name] for name in weights)


def test_the_state_of_another_metric_or_mode_is_not_taken_over() -> None:
    first = EarlyStopping("valid/loss", patience=1)
    feed(first, [0.5, 0.6])
    for other in (EarlyStopping("valid/error", patience=1), EarlyStopping("valid/loss", patience=1, mode="max")):
        other.load_state(first.state())
        assert other.judged.seen == 0
        assert not other.confirms(Stop(first.reason or ""))


@pytest.mark.parametrize(
    ("before", "after", "confirmed"),
    [
        ({"patience": 2}, {"patience": 2}, True),
        ({"patience": 2}, {"patience": 1}, True),
        ({"patience": 2}, {"patience": 3}, False),
        ({"patience": 2}, {"patience": Every(epochs=2)}, True),
        ({"patience": 2}, {"patience": Every(epochs=3)}, False),
        ({"divergence": 0.65}, {"divergence": 1.0}, False),
        ({"divergence": 0.65}, {"divergence": 0.65}, True),
        ({"patience": 2}, {"patience": 2, "start_after": 3}, False),
    ],
)
def test_a_stored_stop_is_confirmed_by_the_rule_as_it_is_now(before: Any, after: Any, confirmed: bool) -> None:
    first, second = EarlyStopping("valid/loss", **before), EarlyStopping("valid/loss", **after)
    stop = feed(first, [0.5, 0.6, 0.7])
    assert stop is not None
    second.load_state(first.state())
    assert second.confirms(stop) is confirmed


def test_a_nan_that_ended_a_run_no_longer_does_where_it_is_ignored() -> None:
    first, second = EarlyStopping("valid/loss"), EarlyStopping("valid/loss", nan="ignore")
    stop = feed(first, [0.5, math.nan])
    assert stop == Stop("valid/loss is NaN at epoch 2")
    second.load_state(first.state())
    assert not second.confirms(stop)


def test_the_best_weights_come_back_at_the_end() -> None:
    run: Any = Watched()
    stopping = EarlyStopping("valid/loss", patience=2, restore_best=True)
    assert stopping.changes_run
    weight = run.model.weight
    feed(stopping, [0.5, 0.4, 0.6, 0.7], run)
    stopping.on_fit_end(run, ended())
    assert run.model.weight is weight
    assert torch.equal(weight, torch.full((1, 2), 1.0))
    assert weight.requires_grad


def test_the_best_weights_come_back_after_a_resume() -> None:
    run: Any = Watched()
    first, second = (EarlyStopping("valid/loss", restore_best=True) for _ in range(2))
    feed(first, [0.5, 0.4], run)
    second.load_state(first.state())
    feed(second, [0.6], run, first=2)
    second.on_fit_end(run, ended())
    assert torch.equal(run.model.bias, torch.ones(1))


def test_the_kept_weights_do_not_follow_the_model_or_the_state() -> None:
    run: Any = Watched()
    first, second = (EarlyStopping("valid/loss", restore_best=True) for _ in range(2))
    feed(first, [0.5], run)
    state: Any = first.state()
    second.load_state(state)
    state["weights"]["bias"].fill_(7.0)
    feed(second, [0.6], run, first=1)
    assert torch.equal(second.state()["weights"]["bias"], torch.zeros(1))  # type: ignore[index, call-overload, arg-type]


@pytest.mark.parametrize(("restore", "complete", "left"), [(False, True, 2.0), (True, False, 2.0), (True, True, 0.0)])
def test_weights_come_back_only_where_asked_for_and_complete(restore: bool, complete: bool, left: float) -> None:
    run: Any = Watched()
    stopping = EarlyStopping("valid/loss", restore_best=restore)
    feed(stopping, [0.5, 0.6, 0.7], run)
    stopping.on_fit_end(run, ended(complete=complete))
    assert run.model.bias.item() == left


def test_nothing_comes_back_where_nothing_was_ever_good() -> None:
    run: Any = Watched()
    stopping = EarlyStopping("valid/loss", restore_best=True)
    feed(stopping, [math.nan], run)
    stopping.on_fit_end(run, ended())
    assert stopping.state()["weights"] is None


def test_a_best_from_before_restore_best_was_asked_for_is_warned_of() -> None:
    run: Any = Watched()
    first, second = EarlyStopping("valid/loss"), EarlyStopping("valid/loss", restore_best=True)
    feed(first, [0.5], run)
    second.load_state(first.state())
    with pytest.warns(UserWarning, match="restore_best=True restores nothing: the best value lies before the resume"):
        second.on_fit_end(run, ended())


def test_weights_of_another_model_are_refused_and_change_nothing() -> None:
    stopping = EarlyStopping("valid/loss", restore_best=True)
    feed(stopping, [0.5])
    run: Any = Watched(model=nn.Linear(3, 1, bias=False))
    before = run.model.weight.clone()
    with pytest.raises(MismatchError) as raised:
        stopping.on_fit_end(run, ended())
    differences = (
        "weight: (1, 2) in the best weights, (1, 3) in the model",
        "bias: (1,) in the best weights, absent in the model",
    )
    assert raised.value.differences == differences
    assert str(raised.value) == "\n  ".join(("the best weights do not fit the model, so it was left as it is:", *differences))
    assert torch.equal(run.model.weight, before)


def test_restore_best_must_be_a_flag() -> None:
    with pytest.raises(ArgumentTypeError, match="restore_best must be True or False, got 'yes'"):
        EarlyStopping("valid/loss", restore_best="yes")  # type: ignore[arg-type]


class Counting(nn.Module):
    """A module with extra state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def get_extra_state(self) -> list[int]:
        return self.counts

    def set_extra_state(self, state: list[int]) -> None:
        self.counts = state


def test_extra_state_of_a_module_comes_back_too() -> None:
    run: Any = Watched(model=Counting())
    stopping = EarlyStopping("valid/loss", restore_best=True)
    run.model.counts.append(1)
    feed(stopping, [0.5], run)
    run.model.counts.append(2)
    stopping.on_fit_end(run, ended())
    assert run.model.counts == [1]
