"""Exact weighted averages, whatever the cut into batches.

An average over an epoch is a sum of values times counts divided by the sum of counts, both kept on the device in
float64 (float32 where the device has no float64), and read once. The mean of batch means, which is not the mean
when the last batch is short, appears nowhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchflow.arguments import shown
from torchflow.device import move
from torchflow.errors import StateError, StepError
from torchflow.types import Metric, State, Stateful
from torchflow.weighted_mean import Weighed, WeightedMean, exact_dtype

FEW = 8
"""Losses of fewer updates wait for others to be summed with; so many are worth a sum of their own."""


class Averages:
    """The loss and the metrics of one stream (train, or one validation), gathered over an epoch or a pass.

    Args:
        objects: The step's metric objects; this stream works on deep copies.
        device: Where sums are kept.
        summed: The metrics whose sum is the loss, where a step has several losses; otherwise none.
    """

    __slots__ = ("_device", "_kind", "_loss", "_metrics", "_summed", "objects")

    def __init__(self, objects: Mapping[str, Metric], device: torch.device, summed: Sequence[str] = ()) -> None:
        self.objects = {name: move(copy.deepcopy(metric), device) for name, metric in objects.items()}
        self._device = device
        self._kind = exact_dtype(device)
        self._summed = summed
        self.reset()

    def add(self, loss: Tensor, count: int | Tensor, metrics: Mapping[str, Tensor | tuple[Any, ...]]) -> None:
        """Gather what a step gave for one batch.

        Args:
            loss: The loss, shape (), detached.
            count: How many samples it is the mean of.
            metrics: As :func:`kept_metrics` returns them.

        Raises:
            StepError: A metric has a shape that is neither () nor (samples,), or a tuple has no object of its name.
        """
        self._loss.add(loss, count)
        for name, value in metrics.items():
            if isinstance(value, Weighed):
                self._metric(name).add(*value)
            elif isinstance(value, tuple):
                self._object(name).update(*value)
            elif value.ndim > 1:
                raise StepError(
                    f"metric {name!r} must have shape () or (samples,), got {tuple(value.shape)}. Average it within a sample."
                )
            else:
                self._metric(name).add(value, None if value.ndim else count)

    def add_many(self, losses: Tensor, counts: int | Tensor, metrics: Mapping[str, Tensor | tuple[Any, ...]]) -> None:
        """Gather what a step gave for several batches at once; every tensor has a first dimension of batches.

        Args:
            losses: The losses, shape (batches,).
            counts: How many samples each is the mean of: one number, or a tensor of shape (batches,).
            metrics: As in ``Outputs.metrics``.
        """
        updates = losses.shape[0]  # len() of a tensor costs a microsecond
        if not metrics and updates < FEW and not isinstance(counts, Tensor):
            for loss in losses.unbind():
                self._loss.add(loss, counts)
            return
        if isinstance(counts, Tensor):
            weight: float | Tensor = counts.type(self._kind).sum()
            self._loss.add_sum((losses.type(self._kind) * counts).sum(), weight)
        else:
            weight = updates * counts
            self._loss.add_sum(losses.sum(dtype=self._kind) * counts, weight)
        for name, value in metrics.items():
            if isinstance(value, tuple):
                for number in range(updates):
                    self._object(name).update(*(v[number] if isinstance(v, Tensor) else v for v in value))
            elif value.ndim > 1:
                self._metric(name).add_sum(value.type(self._kind).sum(), value.numel())
            else:
                self._metric(name).add_sum((value.type(self._kind) * counts).sum(), weight)

    def _metric(self, name: str) -> WeightedMean:
        mean = self._metrics.get(name)
        if mean is None:
            mean = self._metrics[name] = WeightedMean(self._device)
        return mean

    def refuse_unknown(self, metrics: Mapping[str, object]) -> None:
        """Refuse arguments of an object that is not there, before the update is made.

        Raises:
            StepError: A tuple has no object of its name.
        """
        for name, value in metrics.items():
            if isinstance(value, tuple):
                self._object(name)

    def _object(self, name: str) -> Metric:
        if name not in self.objects:
            known = ", ".join(map(repr, self.objects)) or "none"
            raise StepError(
                f"Outputs.metrics[{name!r}] is a tuple of arguments, but the step has no metric object of that name (it has {known}). "
                f"Give the step an attribute metrics = {{{name!r}: ...}}, or return a tensor."
            )
        return self.objects[name]

    def compute(self) -> dict[str, float]:
        """Return every average as a float: the one place that waits for the device. NaN where nothing was counted."""
        values = {name: mean.compute() for name, mean in {"loss": self._loss, **self._metrics}.items()}
        if self._summed:  # of the exact means, since the losses of one batch may count differently
            values["loss"] = sum(values.get(name, math.nan) for name in self._summed)
        return values | {name: _number(name, metric) for name, metric in self.objects.items()}

    def reset(self) -> None:
        """Forget all that was gathered."""
        self._loss = WeightedMean(self._device)
        self._metrics: dict[str, WeightedMean] = {}
        for metric in self.objects.values():
            metric.reset()

    def state(self) -> dict[str, State]:
        """Return the running sums and the state of every metric object."""
        objects = {name: _object_state(name, metric) for name, metric in self.objects.items()}
        metrics = {name: mean.state() for name, mean in self._metrics.items()}
        return {"loss": self._loss.state(), "metrics": metrics, "objects": objects}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self._loss.load_state(state["loss"])
        self._metrics = {}
        for name, gathered in state["metrics"].items():
            self._metric(name).load_state(gathered)
        for name, metric in self.objects.items():
            _load_object_state(metric, state["objects"][name])


def kept_metrics(metrics: Mapping[str, Tensor | tuple[Any, ...]]) -> dict[str, Tensor | tuple[Any, ...]]:
    """Return metrics detached, and averages as copies: the step may write to its own tensor again, and so may the optimizer.

    A copy of a view does not keep alive all that it is a part of. The arguments of a metric object are used at once.
    """
    return {name: _kept(value) for name, value in metrics.items()}


def _kept(value: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...]:
    if isinstance(value, Weighed):
        return Weighed(value.mean.detach().clone(), value.count)
    if isinstance(value, tuple):
        return tuple(v.detach() if isinstance(v, Tensor) else v for v in value)
    return (value.detach() if value.requires_grad else value).clone()


def _number(name: str, metric: Metric) -> float:
    value = metric.compute()
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise StepError(
            f"metric {name!r} must compute one number, got {shown(value)} from {type(metric).__name__}. Choose an average of its "
            "values, or give one metric for each."
        ) from error


def _object_state(name: str, metric: Metric) -> Mapping[str, State]:
    """Return what a metric object has gathered: its own ``state()``, torchmetrics' state, or its attributes."""
    if isinstance(metric, Stateful):
        return metric.state()
    gathered = getattr(metric, "metric_state", None)
    if isinstance(gathered, dict):
        return {"gathered": dict(gathered), "updates": int(getattr(metric, "_update_count", 0))}
    attributes = vars(metric)
    for attribute, value in attributes.items():
        if not isinstance(value, (bool, int, float, str, Tensor, list, tuple, dict, type(None))):
            raise StateError(
                f"metric {name!r} keeps {attribute!r} as a {type(value).__name__}, which a checkpoint cannot hold. "
                "Give its class state() and load_state(state)."
            )
    return dict(attributes)


def _load_object_state(metric: Metric, state: Mapping[str, Any]) -> None:
    if isinstance(metric, Stateful):
        metric.load_state(copy.deepcopy(state))
    elif isinstance(getattr(metric, "metric_state", None), dict):
        metric.reset()
        for name, value in copy.deepcopy(state["gathered"]).items():
            setattr(metric, name, value)
        metric._update_count = state["updates"]  # type: ignore[attr-defined]  # torchmetrics warns at compute() without it
    else:
        vars(metric).update(copy.deepcopy(dict(state)))
