"""Windows over consecutive samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchflow.data.collate import rows
from torchflow.data.draw import Draw
from torchflow.data.schema import Schema
from torchflow.data.sources import Source
from torchflow.data.values import codes_of
from torchflow.errors import DataError
from torchflow.tree import map_leaves


@dataclass(frozen=True)
class Runs:
    """Samples that follow on each other, run by run.

    Attributes:
        order: The samples of every run one after the other, int64; None where that is their own order.
        lengths: How many samples each run has, int64.
    """

    order: Tensor | None
    lengths: Tensor

    @classmethod
    def of(cls, source: Source, group: Any) -> Runs | None:
        """Return the runs of a source: cut at its seams, and where another group begins; None where it is one run."""
        seams = source.seams()
        if group is None:
            ends = torch.cat((seams, torch.tensor([source.length])))
            return cls(None, torch.diff(ends, prepend=torch.tensor([0]))) if len(seams) else None
        codes, _ = codes_of(source, "group", group)
        order = torch.sort(codes, stable=True).indices
        pieces = torch.searchsorted(seams, order, right=True)
        changes = (torch.diff(codes[order]) != 0) | (torch.diff(pieces) != 0)
        ends = torch.cat((changes.nonzero().reshape(-1) + 1, torch.tensor([source.length])))
        return cls(order, torch.diff(ends, prepend=torch.tensor([0])))

    def starts(self, span: int, stride: int) -> Tensor:
        """Return where windows of ``span`` samples start in the order, ``stride`` apart within each run."""
        counts = ((self.lengths - span).clamp(min=-stride) + stride) // stride
        begins = self.lengths.cumsum(0) - self.lengths
        firsts = torch.repeat_interleave(begins, counts)
        within = torch.arange(len(firsts)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        return firsts + within * stride


class Windows(Source):
    """Runs of consecutive samples, stacked along a leading dimension of time.

    Sample ``i`` holds the parent's samples ``i * stride`` to ``i * stride + steps``: tensors (steps, ...). With a horizon
    it is the pair of those and the ``horizon`` samples that follow.

    Args:
        parent: Where the samples are, in the order of time.
        steps: How many samples a window has.
        stride: How far apart windows start.
        horizon: How many samples follow as the second of a pair; 0 for no pair.
        runs: Which samples follow on another; None is all of them, one after the other.
    """

    def __init__(self, parent: Source, steps: int, stride: int, horizon: int, runs: Runs | None = None) -> None:
        self.parents = (parent,)
        self._order = None if runs is None else runs.order
        self._starts = None if runs is None else runs.starts(steps + horizon, stride)
        self._steps = steps
        self._stride = stride
        self._horizon = horizon
        if parent.schema is not None:
            past = parent.schema.over_time(steps)
            ahead = parent.schema.over_time(horizon, "_ahead", target=True)
            self.schema = Schema.side_by_side([past, ahead]) if horizon else past

    @property
    def length(self) -> int:
        """How many windows fit."""
        if self._starts is not None:
            return len(self._starts)
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

    def seams(self) -> Tensor:
        """Return none: windows of windows are the user's to arrange."""
        return torch.empty(0, dtype=torch.int64)

    def _frames(self, indices: Tensor, draw: Draw, first: int, count: int) -> Any:
        """Return steps ``first`` to ``first + count`` of every window."""
        starts = indices * self._stride if self._starts is None else self._starts[indices]
        places = (starts[:, None] + torch.arange(first, first + count)).reshape(-1)
        places = places if self._order is None else self._order[places]
        flat = self.parents[0].batch(places, draw.spread(indices, first, count, self._steps + self._horizon))
        return map_leaves(partial(_framed, size=len(indices), count=count), flat)


def _framed(leaf: Any, size: int, count: int) -> Tensor:
    """Return one part of the flat batch with the dimension of time split off."""
    if not isinstance(leaf, Tensor):
        raise DataError(f"windows stack tensors along time, and a sample holds {type(leaf).__name__}. Encode it in a map before.")
    return leaf.reshape(size, count, *leaf.shape[1:])
