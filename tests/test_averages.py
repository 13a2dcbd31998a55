from __future__ import annotations

import copy
import math
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from torchflow import EpochEnded, Outputs, Stepped, Trainer, events
from torchflow.averages import Averages, kept_metrics
from torchflow.checkpoint.format import check_state
from torchflow.errors import StateError, StepError
from torchflow.metrics import R2
from torchflow.weighted_mean import BLOCK

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torchmetrics

CPU = torch.device("cpu")
Metrics = dict[str, Tensor | tuple[Any, ...]]


def cuts(samples: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, max(1, samples - 1)), max_size=5, unique=True).map(sorted)


def parts_of(values: Tensor, at: list[int]) -> list[Tensor]:
    return [part for part in torch.tensor_split(values, at) if len(part)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.data())
def test_averages_are_exact_whatever_the_cut_into_batches(numbers: list[float], data: st.DataObject) -> None:
    values = torch.tensor(numbers, dtype=torch.float64)
    averages = Averages({}, CPU)
    for part in parts_of(values, data.draw(cuts(len(values)))):
        averages.add(part.mean(), len(part), {"each": part, "mean": part.mean()})
    found = averages.compute()
    expected = math.fsum(numbers) / len(numbers)
    for name in ("loss", "each", "mean"):
        assert found[name] == pytest.approx(expected, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_averages_of_low_precision_values_lose_nothing(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.rand(3000).type(dtype)
    averages = Averages({}, CPU)
    for part in torch.split(values, 700):
        averages.add(part[0], len(part), {"each": part})
    assert averages.compute()["each"] == pytest.approx(values.double().mean().item(), rel=1e-14)


def test_counts_that_are_sums_of_class_weights_are_summed_exactly() -> None:
    averages = Averages({}, CPU)
    for _ in range(2 * BLOCK):
        averages.add(torch.tensor(1.0), torch.tensor(2.0**24 + 2), {"m": torch.tensor(1.0)})
    averages.add(torch.tensor(0.0), torch.tensor(1.0), {"m": torch.tensor(0.0)})
    whole = 2 * BLOCK * (2.0**24 + 2)
    assert averages.compute() == {"loss": whole / (whole + 1), "m": whole / (whole + 1)}


@given(st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK))
def test_losses_are_averaged_over_any_number_of_blocks(first: int, second: int) -> None:
    torch.manual_seed(first)
    losses, counts = torch.rand(first + second), torch.randint(1, 9, (first + second,))
    averages = Averages({}, CPU)
    for number in range(first + second):
        if number == first:
            averages.compute()  # looking changes nothing
        averages.add(losses[number], int(counts[number]), {})
    if first + second:
        weighted = (losses.double() * counts).sum() / counts.sum()
        assert averages.compute()["loss"] == pytest.approx(weighted.item(), rel=1e-12)
    else:
        assert averages.compute().keys() == {"loss"}
        assert math.isnan(averages.compute()["loss"])


def test_looking_and_saving_do_not_change_the_last_bit() -> None:
    torch.manual_seed(0)
    losses, samples = torch.rand(200), torch.rand(200, 7)
    quiet, watched = Averages({}, CPU), Averages({}, CPU)
    for number, (loss, each) in enumerate(zip(losses, samples, strict=True)):
        either = loss if number % 9 else each
        quiet.add(loss, 7, {"mean": loss, "each": each[: number % 7], "either": either})
        watched.add(loss, 7, {"mean": loss, "each": each[: number % 7], "either": either})
        watched.compute()
        if number % 50 == 30:
            again = Averages({}, CPU)
            state = watched.state()
            check_state(state)
            again.load_state(copy.deepcopy(state))
            watched = again
    assert watched.compute() == quiet.compute()


def test_a_metric_is_what_it_was_when_the_step_returned_it() -> None:
    """A parameter is changed by the optimizer, and a step may write to one tensor again and again."""
    model, level, each, before = nn.Linear(1, 1, bias=False), torch.zeros(()), torch.zeros(2), list[float]()

    def step(model: nn.Linear, batch: Tensor) -> Outputs:
        before.append(model.weight.item())
        level.fill_(len(before))
        each.fill_(len(before))
        return Outputs(model(batch).square().mean(), metrics={"weight": model.weight[0, 0], "level": level, "each": each})

    trainer = Trainer(step, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), progress=False)
    run = trainer.start(model, torch.ones(10, 1), batch_size=2)
    seen = [event for event in events(run, epochs=1) if isinstance(event, (Stepped, EpochEnded))]
    assert [float(event.metrics["weight"]) for event in seen[:-1]] == before
    assert [float(event.metrics["level"]) for event in seen[:-1]] == [1, 2, 3, 4, 5]
    ended = seen[-1].metrics
    assert ended["train/weight"] == pytest.approx(sum(before) / 5, rel=1e-12)
    assert (ended["train/level"], ended["train/each"]) == (3.0, 3.0)
    level.zero_()
    assert trainer.evaluate(model, torch.ones(10, 1), batch_size=2)["level"] == 8.0


def test_a_metric_that_is_a_view_keeps_nothing_else_alive() -> None:
    memory = np.zeros((4, 100_000))
    alive = weakref.ref(memory)
    kept = kept_metrics({"first": torch.from_numpy(memory)[:, 0]})
    del memory
    assert alive() is None
    assert kept["first"].tolist() == [0, 0, 0, 0]  # type: ignore[union-attr]


def test_counts_may_be_tensors_and_nothing_counted_is_nan() -> None:
    averages = Averages({}, CPU)
    averages.add(torch.tensor(2.0), torch.tensor(3), {"m": torch.tensor(4.0)})
    averages.add(torch.tensor(6.0), 1, {"m": torch.tensor(8.0)})
    assert averages.compute() == {"loss": 3.0, "m": 5.0}
    empty = Averages({}, CPU)
    empty.add(torch.tensor(2.0), 0, {})
    assert math.isnan(empty.compute()["loss"])


def test_large_sums_are_kept_in_float64() -> None:
    averages = Averages({}, CPU)
    for _ in range(1000):
        averages.add(torch.tensor(0.1), 10**6, {})
    assert averages.compute()["loss"] == pytest.approx(float(torch.tensor(0.1)), rel=1e-14)


def test_resetting_forgets_everything() -> None:
    averages = Averages({"r2": R2()}, CPU)
    averages.add(torch.tensor(1.0), 2, {"m": torch.ones(2), "r2": (torch.rand(2), torch.rand(2))})
    averages.reset()
    assert averages.compute().keys() == {"loss", "r2"}
    assert math.isnan(averages.compute()["loss"])
    assert math.isnan(averages.compute()["r2"])


def test_a_metric_of_several_values_a_sample_is_refused() -> None:
    with pytest.raises(
        StepError, match=r"metric 'm' must have shape \(\) or \(samples,\), got \(2, 2\)\. Average it within a sample"
    ):
        Averages({}, CPU).add(torch.tensor(1.0), 2, {"m": torch.ones(2, 2)})


def test_a_tuple_without_an_object_of_its_name_is_refused() -> None:
    with pytest.raises(
        StepError, match=r"Outputs\.metrics\['m'\] is a tuple .* no metric object of that name \(it has none\)\. Give the step"
    ):
        Averages({}, CPU).add(torch.tensor(1.0), 2, {"m": (1, 2)})
    with pytest.raises(StepError, match=r"it has 'r2'"):
        Averages({"r2": R2()}, CPU).add(torch.tensor(1.0), 2, {"m": (1, 2)})


class Largest:
    """A metric object of a user: plain attributes."""

    def __init__(self) -> None:
        self.largest, self.seen = 0.0, list[int]()

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        assert not predictions.requires_grad
        self.largest = max(self.largest, (predictions - targets).abs().max().item())
        self.seen.append(len(targets))

    def compute(self) -> float:
        return self.largest

    def reset(self) -> None:
        self.largest, self.seen = 0.0, []


class Counting(Largest):
    """A metric object with a state of its own."""

    def state(self) -> dict[str, Any]:
        return {"largest": self.largest}

    def load_state(self, state: dict[str, Any]) -> None:
        self.largest = state["largest"]


class Odd(Largest):
    def reset(self) -> None:
        super().reset()
        self.callback: Any = len


def batches(count: int = 4) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(2)
    return [(torch.randn(5), torch.randn(5)) for _ in range(count)]


def gather(averages: Averages, pairs: list[tuple[Tensor, Tensor]]) -> None:
    for predictions, targets in pairs:
        averages.add(torch.tensor(1.0), 5, kept_metrics({"m": (predictions.requires_grad_(), targets)}))


@pytest.mark.filterwarnings("ignore:Metric .SpearmanCorrcoef. will save all targets")
@pytest.mark.parametrize("make", [R2, Largest, Counting, torchmetrics.MeanSquaredError, torchmetrics.SpearmanCorrCoef])
def test_the_state_of_a_metric_object_in_mid_epoch_goes_round(make: Callable[[], Any]) -> None:
    whole, first, second = (Averages({"m": make()}, CPU) for _ in range(3))
    pairs = batches()
    gather(whole, pairs)
    gather(first, pairs[:2])
    state = first.state()
    check_state(state)
    second.load_state(copy.deepcopy(state))
    gather(second, pairs[2:])
    assert second.compute() == whole.compute()
    assert math.isfinite(whole.compute()["m"])


@pytest.mark.parametrize("make", [R2, Largest, Counting, torchmetrics.MeanSquaredError])
def test_a_loaded_state_is_a_copy(make: Callable[[], Any]) -> None:
    first, second = Averages({"m": make()}, CPU), Averages({"m": make()}, CPU)
    gather(first, batches(2))
    before = first.compute()
    second.load_state(first.state())
    gather(second, [(torch.full((5,), 100.0), torch.zeros(5))])
    assert first.compute() == before


@pytest.mark.filterwarnings("ignore:Metric .SpearmanCorrcoef. will save all targets")
@pytest.mark.parametrize("make", [torchmetrics.MeanSquaredError, torchmetrics.MeanAbsoluteError, torchmetrics.SpearmanCorrCoef])
def test_torchmetrics_classes_fit_as_they_are(make: Callable[[], Any]) -> None:
    averages, alone = Averages({"m": make()}, CPU), make()
    gather(averages, batches())
    for predictions, targets in batches():
        alone.update(predictions, targets)
    assert averages.compute()["m"] == float(alone.compute())
    averages.reset()
    gather(averages, batches(2))
    assert averages.compute()["m"] != float(alone.compute())


def test_streams_work_on_copies_that_begin_empty() -> None:
    given = Largest()
    given.update(torch.ones(1), torch.zeros(1))
    one, two = Averages({"m": given}, CPU), Averages({"m": given}, CPU)
    assert one.compute()["m"] == 0.0
    gather(one, batches(1))
    assert two.compute()["m"] == 0.0
    assert given.largest == 1.0


def test_an_object_that_keeps_what_no_checkpoint_can_hold_is_refused() -> None:
    averages = Averages({"m": Odd()}, CPU)
    with pytest.raises(
        StateError, match=r"metric 'm' keeps 'callback' as a builtin_function_or_method, .* Give its class state\(\)"
    ):
        averages.state()


@pytest.mark.parametrize("value", [torch.ones(2), {"a": 1.0}, None, "text"])
def test_an_object_must_compute_one_number(value: Any) -> None:
    class Several(Largest):
        def compute(self) -> Any:
            return value

    with pytest.raises(StepError, match=r"metric 'm' must compute one number, got .* Several"):
        Averages({"m": Several()}, CPU).compute()


@dataclass
class Summed:
    """A metric object that is a dataclass: it moves to the device as one."""

    total: Tensor

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        self.total = self.total + (predictions - targets).sum()

    def compute(self) -> Tensor:
        return self.total

    def reset(self) -> None:
        self.total = torch.zeros(())


def test_a_metric_object_that_is_a_dataclass_gathers_like_any_other() -> None:
    averages = Averages({"m": Summed(torch.ones(()))}, CPU)
    averages.add(torch.tensor(1.0), 2, {"m": (torch.ones(2), torch.zeros(2))})
    assert averages.compute()["m"] == 2.0
