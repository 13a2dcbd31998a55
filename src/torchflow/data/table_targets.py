"""What a fitted TableEncoder makes of the target: numbers in units of their spread, or classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.schema import Field
from torchflow.data.table_cells import numbers_of, texts_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError
from torchflow.types import State

GAP_IN_TARGET = "Leave out such rows: a gap in the target teaches nothing."


@dataclass(frozen=True)
class Amounts:
    """Targets that are numbers, shifted and scaled.

    Attributes:
        columns: Their names.
        means: What is subtracted from each.
        stds: What the rest of each is divided by.
    """

    columns: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    def encode(self, batch: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
        """Return y of shape (batch, targets).

        Raises:
            DataError: A gap, or what is no number.
        """
        made = []
        for column, mean, std in zip(self.columns, self.means, self.stds, strict=True):
            values = numbers_of(batch[column], column)
            refuse_gaps_in_target(values.isnan(), column)
            made.append((values - mean) / std)
        return torch.stack(made, dim=1).type(dtype)

    def inverse(self, values: Tensor) -> Tensor:
        """Return predictions (batch, targets) in the units of the table.

        Raises:
            ArgumentTypeError: They are no floating tensor.
            ArgumentValueError: They have another width.
        """
        if not isinstance(values, Tensor) or not values.is_floating_point():
            raise ArgumentTypeError(f"predictions of numbers must be a floating tensor (batch, {len(self.columns)}).")
        if not values.ndim or values.shape[-1] != len(self.columns):
            raise ArgumentValueError(f"predictions must have the shape (batch, {len(self.columns)}), got {tuple(values.shape)}.")
        stds, means = (torch.as_tensor(part, dtype=values.dtype, device=values.device) for part in (self.stds, self.means))
        return values * stds + means

    def field(self, dtype: torch.dtype) -> Field:
        """Return what y is."""
        return Field("y", (len(self.columns),), dtype, columns=self.columns, target=True)

    def state(self) -> dict[str, State]:
        """Return what was learnt."""
        return {"kind": "amounts", "columns": list(self.columns), "means": list(self.means), "stds": list(self.stds)}


TRUTH_CLASSES = frozenset({"False", "True"})
"""The classes of a target of truth values."""


@dataclass(frozen=True)
class Classes:
    """A target of classes.

    Attributes:
        column: Its name.
        classes: Their names, in the order of their indices.
    """

    column: str
    classes: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    def encode(self, batch: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
        """Return y, int64 of shape (batch,).

        Raises:
            DataError: A gap, or a class that the training split did not have.
        """
        known, texts = self._indices, texts_of(batch[self.column], self.column)
        if known.keys() <= TRUTH_CLASSES:  # a file in which other cells are no truth values has them as it spells them
            texts = [text.capitalize() for text in texts]
        indices = torch.tensor([known.get(text, -1) for text in texts], dtype=torch.int64)
        if bool((indices < 0).any()):
            refuse_gaps_in_target(torch.tensor([text == "" for text in texts]), self.column)
            wrong = next(text for text in texts if text not in known)
            had = ", ".join(map(repr, self.classes[:8])) + (", ..." if len(self.classes) > 8 else "")
            raise DataError(
                f"target {self.column!r} holds {wrong!r}, and the training split had the classes {had}. Leave out that row."
            )
        return indices

    def inverse(self, values: Tensor) -> list[str]:
        """Return the names of predicted classes, of scores (batch, classes) or of indices (batch,).

        Raises:
            ArgumentTypeError: They are no tensor.
            ArgumentValueError: They have another width, or an index is out of range.
        """
        if not isinstance(values, Tensor):
            raise ArgumentTypeError(f"predictions must be a tensor, got {arguments.shown(values)}.")
        if values.is_floating_point():
            if values.ndim != 2 or values.shape[1] != len(self.classes):
                raise ArgumentValueError(f"scores must have the shape (batch, {len(self.classes)}), got {tuple(values.shape)}.")
            values = values.argmax(1)
        indices = values.reshape(-1).tolist()
        wrong = next((index for index in indices if not 0 <= index < len(self.classes)), None)
        if wrong is not None:
            raise ArgumentValueError(f"class indices must be from 0 to {len(self.classes) - 1}, got {wrong}.")
        return [self.classes[index] for index in indices]

    def field(self, dtype: torch.dtype) -> Field:
        """Return what y is."""
        return Field("y", (), torch.int64, classes=self.classes, columns=(self.column,), target=True)

    def state(self) -> dict[str, State]:
        """Return what was learnt."""
        return {"kind": "classes", "columns": [self.column], "classes": list(self.classes)}


def refuse_gaps_in_target(gaps: Tensor, column: str) -> None:
    """Refuse gaps, shape (batch,), in a column that is learnt.

    Raises:
        DataError: There is one.
    """
    if bool(gaps.any()):
        raise DataError(f"target {column!r} has a gap in row {int(gaps.nonzero()[0])} of the batch. {GAP_IN_TARGET}")
