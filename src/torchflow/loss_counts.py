"""How many samples or tokens a loss is the mean of, and the mean where a loss gives a sum or every value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def class_count(loss: Any, predictions: Tensor, targets: Tensor) -> int | Tensor:
    """Count as torch's classification losses do: targets that are not ignored, by their class weights where given."""
    if targets.is_floating_point():  # class probabilities: torch divides by the number of samples, weighted or not
        return targets.numel() // targets.shape[1 if targets.ndim > 1 else 0]
    kept: Tensor = targets != loss.ignore_index
    if loss.weight is None:
        return kept.sum()
    weights: Tensor = loss.weight
    return (weights[torch.where(kept, targets, 0)] * kept).sum()  # of a fixed size, which compiled updates need


def mean_of(value: Tensor, reduction: str, count: int | Tensor) -> Tensor:
    """Turn a summed or unreduced loss into the mean over its count, or over its elements where it compares those."""
    if reduction == "sum":
        return value / count
    if isinstance(count, int):
        return value.mean()
    return value.sum() / count
