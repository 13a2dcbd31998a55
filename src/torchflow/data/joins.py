"""Nodes that put samples of several datasets together and change none: concat, zip, repeat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from torchflow.data.collate import joined
from torchflow.data.draw import Draw
from torchflow.data.schema import Schema
from torchflow.data.sources import Source


class Repeat(Source):
    """A parent's samples several times over, each time with other random draws.

    Args:
        parent: Where the samples are.
        times: How often.
    """

    def __init__(self, parent: Source, times: int) -> None:
        self.parents = (parent,)
        self.schema = parent.schema
        self._times = times

    @property
    def length(self) -> int:
        """The parent's length, times over."""
        return self.parents[0].length * self._times

    @property
    def lineage(self) -> str:
        """The parent's, and the times."""
        return f"{self.parents[0].lineage}.repeat({self._times})"

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the parent's batch."""
        return self.parents[0].batch(indices % self.parents[0].length, draw.rooted(indices))

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the parent's samples."""
        return self.parents[0].samples(indices % self.parents[0].length, draw.rooted(indices))

    def seams(self) -> Tensor:
        """Return the parent's, times over, and where it begins again."""
        return _joints([self.parents[0]] * self._times)


class Concat(Source):
    """The samples of several parents, one after the other.

    Args:
        parents: At least one.
    """

    def __init__(self, parents: Sequence[Source]) -> None:
        self.parents = tuple(parents)
        self.schema = Schema.common([parent.schema for parent in parents])
        self._ends = torch.tensor(list(accumulate(parent.length for parent in parents)))

    @property
    def length(self) -> int:
        """The sum of the parents' lengths."""
        return int(self._ends[-1])

    @property
    def lineage(self) -> str:
        """Those of all parents."""
        return f"concat({', '.join(parent.lineage for parent in self.parents)})"

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the batches of the parents, joined and put in order; sample by sample where Python makes them anyway."""
        if not self.columnar or not len(indices):
            return super().batch(indices, draw)
        draw = draw.rooted(indices)
        parts = [self.parents[side].batch(own, draw.chosen(places)) for side, places, own in self._owners(indices)]
        order = torch.cat([places for _, places, _ in self._owners(indices)]).argsort()
        return joined(parts, order, self.lineage)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the samples, each from its parent, one request a parent."""
        draw = draw.rooted(indices)
        made: list[Any] = [None] * len(indices)
        for side, places, own in self._owners(indices):
            found = self.parents[side].samples(own, draw.chosen(places))
            for place, sample in zip(places.tolist(), found, strict=True):
                made[place] = sample
        return made

    def seams(self) -> Tensor:
        """Return the parents', and where one follows another."""
        return _joints(self.parents)

    def column(self, part: str | int) -> Tensor | None:
        """Return the parents' columns, one after the other."""
        found = [parent.column(part) for parent in self.parents]
        known = [column for column in found if column is not None]
        alike = len(known) == len(found) and len({(column.shape[1:], column.dtype) for column in known}) == 1
        return torch.cat(known) if alike else None

    def _owners(self, indices: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield ``(side, places in the request, the parent's own indices)`` of every parent that has a sample in it."""
        owners = torch.bucketize(indices, self._ends, right=True)
        for side in sorted(set(owners.tolist())):
            places = (owners == side).nonzero().reshape(-1)
            yield side, places, indices[places] - (int(self._ends[side - 1]) if side else 0)


class Zip(Source):
    """Tuples of the samples of several parents of one length, which draw apart.

    Args:
        parents: At least one; all as long as the first.
    """

    def __init__(self, parents: Sequence[Source]) -> None:
        self.parents = tuple(parents)
        self.schema = Schema.side_by_side([parent.schema for parent in parents])

    @property
    def length(self) -> int:
        """The length of each parent."""
        return self.parents[0].length

    @property
    def lineage(self) -> str:
        """Those of all parents."""
        return f"zip({', '.join(parent.lineage for parent in self.parents)})"

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return a tuple of the parents' batches."""
        return tuple(parent.batch(indices, draw.below(side)) for side, parent in enumerate(self.parents))

    def seams(self) -> Tensor:
        """Return those of all parents."""
        return torch.tensor(sorted({seam for parent in self.parents for seam in parent.seams().tolist()}), dtype=torch.int64)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return tuples of the parents' samples."""
        sides = [parent.samples(indices, draw.below(side)) for side, parent in enumerate(self.parents)]
        return list(zip(*sides, strict=True))


def _joints(parents: Sequence[Source]) -> Tensor:
    """Return the seams of sources one after the other: their own, and where each but the first begins."""
    made: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
    begin = 0
    for parent in parents:
        made.append(torch.cat((torch.tensor([begin] if begin else [], dtype=torch.int64), parent.seams() + begin)))
        begin += parent.length
    return torch.cat(made)
