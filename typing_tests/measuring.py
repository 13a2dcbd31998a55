"""Metrics: functions that give a value a sample, objects that gather, and torchflow's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

import torch
from torch import Tensor, nn

from torchflow import metrics, supervised


class Largest:
    """The least that a metric object is: update, compute and reset."""

    value = 0.0

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        self.value = max(self.value, float(predictions.max()))

    def compute(self) -> float:
        return self.value

    def reset(self) -> None:
        self.value = 0.0


class Forgetful:
    """No metric object: nobody could begin again with it."""

    def update(self, predictions: Tensor, targets: Tensor) -> None: ...

    def compute(self) -> float:
        return 0.0


def distance(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions - targets).abs().flatten(1).mean(1)


def average(predictions: Tensor, targets: Tensor) -> float:
    return float(distance(predictions, targets).mean())


def right_metrics(predictions: Tensor, targets: Tensor) -> None:
    assert_type(metrics.accuracy(predictions, targets), Tensor)
    assert_type(metrics.top_k(3), Callable[[Tensor, Tensor], Tensor])
    assert_type(metrics.R2().compute(), Tensor)
    supervised(nn.MSELoss(), metrics={"distance": distance, "largest": Largest()})


def wrong_metrics(predictions: Tensor) -> None:
    metrics.accuracy(predictions)  # type: ignore[call-arg]
    metrics.absolute_error(predictions, [1.0])  # type: ignore[arg-type]
    metrics.top_k("3")  # type: ignore[arg-type]
    metrics.R2().update(predictions)  # type: ignore[call-arg]
    metrics.R2(3)  # type: ignore[call-arg]
    supervised(nn.MSELoss(), metrics={"average": average})  # type: ignore[dict-item]  # a value a sample, not their mean
    supervised(nn.MSELoss(), metrics={"forgetful": Forgetful()})  # type: ignore[dict-item]  # without reset
    supervised(nn.MSELoss(), metrics={"largest": Largest})  # type: ignore[dict-item]  # the class
    supervised(nn.MSELoss(), metrics={3: distance})  # type: ignore[dict-item]
    supervised(nn.MSELoss(), metrics={"one": torch.ones(3)})  # type: ignore[dict-item]
