"""Nodes that rearrange samples and change none: select, slice, concat, zip, repeat, windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from torchflow.data.collate import rows
from torchflow.data.draw import Draw
from torchflow.data.sources import Source
from torchflow.tree import map_leaves


class Select(Source):
    """The samples of a parent at some indices, in that order.

    Args:
        parent: Where the samples are.
        indices: int64, shape (samples,); they may repeat.
        verb: What the lineage calls it.
    """

    def __init__(self, parent: Source, indices: Tensor, verb: str = "select") -> None:
        self._lineage = f"{parent.lineage}.{verb}"
        if isinstance(parent, Select):  # one lookup however long the chain
            indices, parent = parent.indices.index_select(0, indices), parent.parents[0]
        self.parents = (parent,)
        self.indices: Tensor = indices
        self._plain = not (parent.random or parent.foreign)

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
        below = draw if self._plain else draw.rooted(indices)
        return self.parents[0].batch(self.indices.index_select(0, indices), below)

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

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the parent's samples further on."""
        return self.parents[0].samples(indices + self._start, draw.rooted(indices))


class Repeat(Source):
    """A parent's samples several times over, each time with other random draws.

    Args:
        parent: Where the samples are.
        times: How often.
    """

    def __init__(self, parent: Source, times: int) -> None:
        self.parents = (parent,)
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


class Concat(Source):
    """The samples of several parents, one after the other.

    Args:
        parents: At least one.
    """

    def __init__(self, parents: Sequence[Source]) -> None:
        self.parents = tuple(parents)
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
        """Return one batch of a single parent as it is, and of several gathered and put in order."""
        owners = torch.bucketize(indices, self._ends, right=True)
        if len(indices) and bool((owners == owners[0]).all()):
            side = int(owners[0])
            return self.parents[side].batch(indices - self._begin(side), draw.rooted(indices))
        return super().batch(indices, draw)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the samples, each from its parent, one request a parent."""
        draw = draw.rooted(indices)
        owners = torch.bucketize(indices, self._ends, right=True)
        made: list[Any] = [None] * len(indices)
        for side in sorted(set(owners.tolist())):
            places = (owners == side).nonzero().reshape(-1)
            found = self.parents[side].samples(indices[places] - self._begin(side), draw.chosen(places))
            for place, sample in zip(places.tolist(), found, strict=True):
                made[place] = sample
        return made

    def _begin(self, side: int) -> int:
        return int(self._ends[side - 1]) if side else 0


class Zip(Source):
    """Tuples of the samples of several parents of one length, which draw apart.

    Args:
        parents: At least one; all as long as the first.
    """

    def __init__(self, parents: Sequence[Source]) -> None:
        self.parents = tuple(parents)

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

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return tuples of the parents' samples."""
        sides = [parent.samples(indices, draw.below(side)) for side, parent in enumerate(self.parents)]
        return list(zip(*sides, strict=True))


class Windows(Source):
    """Runs of consecutive samples, stacked along a leading dimension of time.

    Sample ``i`` holds the parent's samples ``i * stride`` to ``i * stride + steps``: tensors (steps, ...). With a horizon
    it is the pair of those and the ``horizon`` samples that follow.

    Args:
        parent: Where the samples are, in the order of time.
        steps: How many samples a window has.
        stride: How far apart windows start.
        horizon: How many samples follow as the second of a pair; 0 for no pair.
    """

    def __init__(self, parent: Source, steps: int, stride: int, horizon: int) -> None:
        self.parents = (parent,)
        self._steps = steps
        self._stride = stride
        self._horizon = horizon

    @property
    def length(self) -> int:
        """How many windows fit."""
        return max(0, self.parents[0].length - self._steps - self._horizon + self._stride) // self._stride

    @property
    def lineage(self) -> str:
        """The parent's, and the sizes."""
        return f"{self.parents[0].lineage}.windows({self._steps}, {self._stride}, {self._horizon})"

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return tensors (batch, steps, ...), or the pair of them and (batch, horizon, ...)."""
        past = self._frames(indices, draw, 0, self._steps)
        return (past, self._frames(indices, draw, self._steps, self._horizon)) if self._horizon else past

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the windows one by one."""
        return rows(self.batch(indices, draw), len(indices))

    def _frames(self, indices: Tensor, draw: Draw, first: int, count: int) -> Any:
        """Return steps ``first`` to ``first + count`` of every window."""
        places = (indices[:, None] * self._stride + torch.arange(first, first + count)).reshape(-1)
        flat = self.parents[0].batch(places, draw.spread(indices, first, count, self._steps + self._horizon))
        size = len(indices)
        return map_leaves(lambda leaf: leaf.reshape(size, count, *leaf.shape[1:]), flat)
