"""Windows over consecutive samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchflow.data.collate import rows
from torchflow.data.draw import Draw
from torchflow.data.schema import Schema
from torchflow.data.sources import Source
from torchflow.errors import DataError
from torchflow.tree import map_leaves


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
        if parent.schema is not None:
            past = parent.schema.over_time(steps)
            ahead = parent.schema.over_time(horizon, "_ahead", target=True)
            self.schema = Schema.side_by_side([past, ahead]) if horizon else past

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
        return map_leaves(partial(_framed, size=len(indices), count=count), flat)


def _framed(leaf: Any, size: int, count: int) -> Tensor:
    """Return one part of the flat batch with the dimension of time split off."""
    if not isinstance(leaf, Tensor):
        raise DataError(f"windows stack tensors along time, and a sample holds {type(leaf).__name__}. Encode it in a map before.")
    return leaf.reshape(size, count, *leaf.shape[1:])
