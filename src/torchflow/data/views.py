"""Nodes that choose samples and change none: select and slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchflow.data.draw import Draw
from torchflow.data.sources import Source


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a split samples are.

    Attributes:
        verb: "split" or "kfold".
        number: 0 for the training part, and from 1 on for those that are held out.
        of: How many parts there are.
        by: What the split went by: "random", "stratify", "group" or "time".
    """

    verb: str
    number: int
    of: int
    by: str = "random"


class Select(Source):
    """The samples of a parent at some indices, in that order.

    Args:
        parent: Where the samples are.
        indices: int64, shape (samples,); they may repeat.
        verb: What the lineage calls it.
        part: Which part of a split it is, if it is one.
    """

    def __init__(self, parent: Source, indices: Tensor, verb: str = "select", part: Part | None = None) -> None:
        self._lineage = f"{parent.lineage}.{verb}"
        self.schema = parent.schema
        self.parts: tuple[Part, ...] = () if part is None else (part,)
        if isinstance(parent, Select):  # one lookup however long the chain
            self.parts = (*parent.parts, *self.parts)
            indices, parent = parent.indices.index_select(0, indices), parent.parents[0]
        self.parents = (parent,)
        self.indices: Tensor = indices
        self.plain = not (parent.random or parent.foreign)

    @property
    def length(self) -> int:
        """How many indices there are."""
        return len(self.indices)

    @property
    def lineage(self) -> str:
        """The parent's, and the verb."""
        return self._lineage

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the parent's batch at the selected indices."""
        below = draw if self.plain else draw.rooted(indices)
        return self.parents[0].batch(self.indices.index_select(0, indices), below)

    def seams(self) -> Tensor:
        """Return where a seam of the parent lies between two neighbours, or where a split left samples out between them."""
        runs = torch.searchsorted(self.parents[0].seams(), self.indices, right=True)
        apart = torch.diff(runs) != 0
        if any(part.by != "time" for part in self.parts):
            apart |= torch.diff(self.indices) != 1
        return apart.nonzero().reshape(-1) + 1

    def column(self, part: str | int) -> Tensor | None:
        """Return the parent's column at the selected indices."""
        found = self.parents[0].column(part)
        return None if found is None else found.index_select(0, self.indices)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the parent's samples at the selected indices."""
        return self.parents[0].samples(self.indices.index_select(0, indices), draw.rooted(indices))


class Slice(Source):
    """A run of a parent's samples: as :class:`Select`, with no indices in memory.

    Args:
        parent: Where the samples are.
        start: The first index.
        length: How many samples.
        verb: What the lineage calls it.
    """

    def __init__(self, parent: Source, start: int, length: int, verb: str) -> None:
        self._lineage = f"{parent.lineage}.{verb}"
        self.schema = parent.schema
        self.parents = (parent,)
        self._start = start
        self._length = length

    @property
    def length(self) -> int:
        """How many samples the run has."""
        return self._length

    @property
    def lineage(self) -> str:
        """The parent's, and the verb."""
        return self._lineage

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the parent's batch further on."""
        return self.parents[0].batch(indices + self._start, draw.rooted(indices))

    def seams(self) -> Tensor:
        """Return the parent's, further on."""
        seams = self.parents[0].seams() - self._start
        return seams[(seams > 0) & (seams < self._length)]

    def column(self, part: str | int) -> Tensor | None:
        """Return the parent's column further on."""
        found = self.parents[0].column(part)
        return None if found is None else found[self._start : self._start + self._length]

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the parent's samples further on."""
        return self.parents[0].samples(indices + self._start, draw.rooted(indices))
