"""Exact weighted averages, whatever the cut into batches.

An average over an epoch is a sum of values times counts divided by the sum of counts, both kept on the device in
float64 (float32 where the device has no float64), and read once. The mean of batch means, which is not the mean
when the last batch is short, appears nowhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torchflow.arguments import shown
from torchflow.device import move
from torchflow.errors import StateError, StepError
from torchflow.types import Metric, State, Stateful

BLOCK = 64
"""How many losses are summed at once."""


class Averages:
    """The loss and the metrics of one stream (train, or one validation), gathered over an epoch or a pass.

    The losses are kept as they come and summed a block at a time: one kernel instead of 64, on the same grid of blocks in
    every run, so that the last bit does not depend on when anybody looked or saved.

    Args:
        objects: The step's metric objects; this stream works on deep copies.
        device: Where sums are kept.
    """

    __slots__ = ("_counts", "_device", "_kind", "_losses", "_sums", "_weights", "objects")

    def __init__(self, objects: Mapping[str, Metric], device: torch.device) -> None:
        self.objects = {name: move(copy.deepcopy(metric), device) for name, metric in objects.items()}
        for metric in self.objects.values():
            metric.reset()
        self._device = device
        self._kind = torch.float32 if device.type == "mps" else torch.float64
        self._losses: list[Tensor] = []
        self._counts: list[int | Tensor] = []
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, int | float | Tensor] = {}

    def add(self, loss: Tensor, count: int | Tensor, metrics: Mapping[str, Tensor | tuple[Any, ...]]) -> None:
        """Gather what a step gave for one batch.

        Args:
            loss: The loss, shape (), detached.
            count: How many samples it is the mean of.
            metrics: As in ``Outputs.metrics``.

        Raises:
            StepError: A metric has a shape that is neither () nor (samples,), or a tuple has no object of its name.
        """
        self._losses.append(loss)
        self._counts.append(count)
        if len(self._losses) == BLOCK:
            self._sums, self._weights = self._with_losses()
            self._losses, self._counts = [], []
        if metrics:
            self._add_metrics(metrics, count)

    def add_many(self, losses: Tensor, counts: int | Tensor, metrics: Mapping[str, Tensor | tuple[Any, ...]]) -> None:
        """Gather what a step gave for several batches at once; every tensor has a first dimension of batches.

        Args:
            losses: The losses, shape (batches,).
            counts: How many samples each is the mean of: one number, or a tensor of shape (batches,).
            metrics: As in ``Outputs.metrics``.
        """
        if not metrics and losses.shape[0] < BLOCK and not isinstance(counts, Tensor):
            for loss in losses.unbind():
                self.add(loss, counts, metrics)
            return
        weight = counts.type(self._kind).sum() if isinstance(counts, Tensor) else len(losses) * counts
        self._sum("loss", (losses.type(self._kind) * counts).sum(), weight)
        for name, value in metrics.items():
            if isinstance(value, tuple):
                for number in range(len(losses)):
                    self._object(name).update(*(v[number] if isinstance(v, Tensor) else v for v in value))
            elif value.ndim > 1:
                self._sum(name, value.type(self._kind).sum(), value.numel())
            else:
                self._sum(name, (value.type(self._kind) * counts).sum(), weight)

    def _sum(self, name: str, total: Tensor, weight: float | Tensor) -> None:
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._weights[name] = self._weights.get(name, 0) + weight

    def _add_metrics(self, metrics: Mapping[str, Tensor | tuple[Any, ...]], count: int | Tensor) -> None:
        for name, value in metrics.items():
            if isinstance(value, tuple):
                self._object(name).update(*(v.detach() if isinstance(v, Tensor) else v for v in value))
            elif value.ndim > 1:
                raise StepError(
                    f"metric {name!r} must have shape () or (samples,), got {tuple(value.shape)}. Average it within a sample."
                )
            else:
                exact = value.detach().type(self._kind)
                total, weight = (exact.sum(), len(value)) if value.ndim else (exact * count, count)
                self._sum(name, total, self._exact(weight))

    def _with_losses(self) -> tuple[dict[str, Tensor], dict[str, int | float | Tensor]]:
        """Return the sums and weights with the losses of the open block; nothing is changed."""
        if not self._losses:
            return self._sums, self._weights
        losses = torch.stack(self._losses).type(self._kind)
        counts = self._stacked_counts()
        total, weight = (losses * counts).sum(), sum(map(self._exact, self._counts))
        before = self._sums.get("loss")
        sums = {"loss": total if before is None else before + total}
        weights = {"loss": self._weights.get("loss", 0) + weight}
        return {**sums, **{n: v for n, v in self._sums.items() if n != "loss"}}, {**self._weights, **weights}

    def _stacked_counts(self) -> Tensor:
        """Return the counts of the open block, shape (losses,)."""
        if any(isinstance(count, Tensor) for count in self._counts):
            return torch.stack([torch.as_tensor(count, dtype=self._kind, device=self._device) for count in self._counts])
        return torch.tensor(self._counts, dtype=self._kind, device=self._device)

    def _exact(self, count: int | Tensor) -> int | Tensor:
        """Return a count in which a whole epoch can be summed: sums of class weights are float32, which has 24 bits."""
        return count.type(self._kind) if isinstance(count, Tensor) and count.is_floating_point() else count

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
        sums, weights = self._with_losses()
        values = {"loss": math.nan} | {name: _ratio(total, weights[name]) for name, total in sums.items()}
        return values | {name: _number(name, metric) for name, metric in self.objects.items()}

    def reset(self) -> None:
        """Forget all that was gathered."""
        self._losses, self._counts, self._sums, self._weights = [], [], {}, {}
        for metric in self.objects.values():
            metric.reset()

    def state(self) -> dict[str, State]:
        """Return the running sums and the state of every metric object."""
        objects = {name: _object_state(name, metric) for name, metric in self.objects.items()}
        block = {"losses": torch.stack(self._losses) if self._losses else None, "counts": list(self._counts)}
        return {"block": block, "sums": dict(self._sums), "weights": dict(self._weights), "objects": objects}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        block = state["block"]
        self._losses = [] if block["losses"] is None else list(block["losses"].clone().unbind())
        self._counts = [count.clone() if isinstance(count, Tensor) else count for count in block["counts"]]
        self._sums = {name: total.clone() for name, total in state["sums"].items()}
        self._weights = {
            name: weight.clone() if isinstance(weight, Tensor) else weight for name, weight in state["weights"].items()
        }
        for name, metric in self.objects.items():
            _load_object_state(metric, state["objects"][name])


def _number(name: str, metric: Metric) -> float:
    value = metric.compute()
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise StepError(
            f"metric {name!r} must compute one number, got {shown(value)} from {type(metric).__name__}. Choose an average of its "
            "values, or give one metric for each."
        ) from error


def _ratio(total: Tensor, weight: float | Tensor) -> float:
    number = float(weight)
    return total.item() / number if number else math.nan


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
