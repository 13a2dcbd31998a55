"""Weighted means: of one value over an epoch, exact whatever the cut into batches, and of an update's metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchflow.types import State

BLOCK = 64
"""How many values are summed at once."""


class Weighed(NamedTuple):
    """A mean with a count of its own, where several losses of one batch do not count the same."""

    mean: Tensor
    """Shape (), detached: nobody writes to it any more."""
    count: int | Tensor  # type: ignore[assignment]  # over the method that every tuple has, as in Stepped
    """How many samples it is the mean of."""


class WeightedMean:
    """One weighted mean.

    Values are kept as they come and summed a block at a time: one kernel instead of 64, on the same grid of blocks in every
    run, so that the last bit does not depend on when anybody looked or saved.

    Args:
        device: Where the sum is kept.
    """

    __slots__ = ("_counts", "_device", "_kind", "_total", "_values", "_weight")

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kind = exact_dtype(device)
        self._values: list[Tensor] = []
        self._counts: list[int | Tensor | None] = []
        self._total: Tensor | None = None
        self._weight: int | float | Tensor = 0

    def add(self, value: Tensor, count: int | Tensor | None) -> None:
        """Gather a tensor that nobody writes to any more.

        Args:
            value: A mean, shape (); or a value a sample, shape (samples,).
            count: How many samples it is the mean of; None for a value a sample.
        """
        if self._counts and (self._counts[-1] is None) is not (count is None):
            self._close()
        self._values.append(value)
        self._counts.append(count)
        if len(self._counts) == BLOCK:
            self._close()

    def add_sum(self, total: Tensor, weight: float | Tensor) -> None:
        """Gather a sum of values times their counts, and the sum of the counts."""
        self._total = total if self._total is None else self._total + total
        self._weight = self._weight + weight

    def compute(self) -> float:
        """Return the mean; NaN where nothing was counted."""
        total, weight = self._sums()
        number = float(weight)
        return total.item() / number if total is not None and number else math.nan

    def state(self) -> dict[str, State]:
        """Return the sums and the open block."""
        lengths = None if not self._counts or self._counts[0] is not None else [len(value) for value in self._values]
        values = torch.cat([value.reshape(-1) for value in self._values]) if self._values else None
        counts = [] if lengths else list(self._counts)
        return {"values": values, "lengths": lengths, "counts": counts, "total": self._total, "weight": self._weight}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        values, lengths = state["values"], state["lengths"]
        values = None if values is None else values.clone()
        if values is None:
            self._values, self._counts = [], []
        elif lengths:
            self._values, self._counts = list(values.split(lengths)), [None] * len(lengths)
        else:
            self._values, self._counts = list(values.unbind()), [_copied(count) for count in state["counts"]]
        self._total, self._weight = _copied(state["total"]), _copied(state["weight"])

    def _close(self) -> None:
        """Sum the open block."""
        self._total, self._weight = self._sums()
        self._values, self._counts = [], []

    def _sums(self) -> tuple[Tensor | None, int | float | Tensor]:
        """Return the sum and its weight with those of the open block; nothing is changed."""
        if not self._values:
            return self._total, self._weight
        counts = [count for count in self._counts if count is not None]
        if counts:
            total = (torch.stack(self._values).type(self._kind) * self._stacked(counts)).sum()
            weight = self._weight + sum(map(self._exact, counts))
        else:
            values = torch.cat(self._values)
            total, weight = values.type(self._kind).sum(), self._weight + len(values)
        return total if self._total is None else self._total + total, weight

    def _stacked(self, counts: list[int | Tensor]) -> Tensor:
        if any(isinstance(count, Tensor) for count in counts):
            return torch.stack([torch.as_tensor(count, dtype=self._kind, device=self._device) for count in counts])
        return torch.tensor(counts, dtype=self._kind, device=self._device)

    def _exact(self, count: int | Tensor) -> int | Tensor:
        """Return a count in which a whole epoch can be summed: sums of class weights are float32, which has 24 bits."""
        return count.type(self._kind) if isinstance(count, Tensor) and count.is_floating_point() else count


class MetricMeans(Mapping[str, Tensor]):
    """The means of an update's metrics over its samples, shape (); each is made when somebody asks for it."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[tuple[Mapping[str, Tensor | tuple[Any, ...]], int | Tensor]]) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> Tensor:
        found = [(metrics.get(name), weight) for metrics, weight in self._parts]
        weighed = [value if isinstance(value, Weighed) else (value, weight) for value, weight in found]
        gathered = [(value, weight) for value, weight in weighed if isinstance(value, Tensor)]
        if not gathered:
            raise KeyError(name)
        sums = [(value.sum(), len(value)) if value.ndim else (value * weight, weight) for value, weight in gathered]
        return torch.stack([total for total, _ in sums]).sum() / sum(weight for _, weight in sums)

    def __iter__(self) -> Iterator[str]:
        names = (name for metrics, _ in self._parts for name, value in metrics.items() if isinstance(value, (Tensor, Weighed)))
        return iter(dict.fromkeys(names))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return repr(dict(self))


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype in which sums are kept: float64, and float32 where the device has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _copied(value: Any) -> Any:
    """Return a number as it is, and a tensor as one that nobody else writes to."""
    return value.clone() if isinstance(value, Tensor) else value
