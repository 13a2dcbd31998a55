"""The common metrics: functions that give one value a sample, which are averaged exactly, and R² as sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from torchflow.arguments import whole
from torchflow.errors import StepError
from torchflow.types import State


def absolute_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error of each sample: (samples, …) and (samples, …) to (samples,)."""
    return _per_sample((_same_shape(predictions, targets) - targets).abs())


def squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each sample: (samples, …) and (samples, …) to (samples,)."""
    return _per_sample((_same_shape(predictions, targets) - targets).square())


def accuracy(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return 1 where the highest score is that of the target class, else 0, averaged within a sample.

    Args:
        predictions: Scores, shape (samples, classes, …).
        targets: Classes from 0, shape (samples, …).

    Returns:
        Shape (samples,).
    """
    _check_classes(predictions, targets)
    return _per_sample((predictions.argmax(1) == targets).type(torch.float32))


def top_k(k: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a metric: 1 where the target class is among the ``k`` highest scores, else 0, averaged within a sample.

    Args:
        k: How many scores count, at least 1.

    Raises:
        ArgumentValueError: ``k`` is below 1.
    """
    k = whole("k", k)

    def among_top(predictions: Tensor, targets: Tensor) -> Tensor:
        _check_classes(predictions, targets)
        best = predictions.topk(min(k, predictions.shape[1]), dim=1).indices
        return _per_sample((best == targets.unsqueeze(1)).any(1).type(torch.float32))

    among_top.__name__ = f"top_{k}"
    return among_top


class R2:
    """The coefficient of determination, 1 - Σ(y - ŷ)² / Σ(y - ȳ)², gathered as sums in float64.

    The sums of batches are merged by Chan, Golub and LeVeque's formula (1979), so that a large mean costs no digits.
    Several outputs are averaged with equal weights. Constant targets give NaN: there is nothing to explain.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.total: Tensor | None = None
        self.residual: Tensor | None = None

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Gather one batch: predictions and targets of the same shape, (samples,) or (samples, outputs)."""
        kind = torch.float32 if targets.device.type == "mps" else torch.float64
        y = targets.detach().type(kind).reshape(len(targets), -1)
        errors = (_same_shape(predictions, targets).detach().type(kind).reshape(len(targets), -1) - y).square().sum(0)
        mean, total = y.mean(0), (y - y.mean(0)).square().sum(0)
        if self.mean is None or self.total is None or self.residual is None:
            self.count, self.mean, self.total, self.residual = len(y), mean, total, errors
            return
        both = self.count + len(y)
        apart = mean - self.mean
        self.total = self.total + total + apart.square() * (self.count * len(y) / both)
        self.mean = self.mean + apart * (len(y) / both)
        self.residual = self.residual + errors
        self.count = both

    def compute(self) -> Tensor:
        """Return R² over all that was gathered, shape (); NaN for nothing."""
        if self.total is None or self.residual is None:
            return torch.tensor(torch.nan)
        return torch.where(self.total > 0, 1 - self.residual / self.total, torch.nan).mean()

    def reset(self) -> None:
        """Forget all that was gathered."""
        self.__init__()  # type: ignore[misc]

    def state(self) -> dict[str, State]:
        """Return the sums."""
        return {"count": self.count, "mean": self.mean, "total": self.total, "residual": self.residual}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self.count, self.mean = state["count"], state["mean"]
        self.total, self.residual = state["total"], state["residual"]


def _per_sample(values: Tensor) -> Tensor:
    if values.ndim == 1:
        return values
    return values.reshape(-1) if values.numel() == values.shape[0] else values.flatten(1).mean(1)


def _same_shape(predictions: Tensor, targets: Tensor) -> Tensor:
    if predictions.shape != targets.shape:
        raise StepError(
            f"predictions of shape {tuple(predictions.shape)} and targets of shape {tuple(targets.shape)} must have the same shape; "
            "torch would broadcast them to something else. Reshape one of them."
        )
    return predictions


def _check_classes(predictions: Tensor, targets: Tensor) -> None:
    expected = (predictions.shape[0], *predictions.shape[2:]) if predictions.ndim > 1 else ()
    if tuple(targets.shape) != expected or targets.is_floating_point():
        raise StepError(
            f"accuracy needs scores (samples, classes, …) and integer targets (samples, …), got {tuple(predictions.shape)} and "
            f"{tuple(targets.shape)} of {targets.dtype}."
        )
