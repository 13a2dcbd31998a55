"""Samples that are made once and kept in memory."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from torchflow.data.collate import copied
from torchflow.data.draw import Draw, first_draw
from torchflow.data.sources import Source


class Cache(Source):
    """The parent's samples, each made once and kept in memory.

    Args:
        parent: Where the samples are; without random maps.
    """

    users = columnar = False

    def __init__(self, parent: Source) -> None:
        self.parents = (parent,)
        self.schema = parent.schema
        self._made: dict[int, Any] = {}
        self._lock = threading.Lock()

    @property
    def foreign(self) -> bool:
        """Whether samples are still to be made, by the user's Python."""
        return len(self._made) < self.length and self.parents[0].foreign

    @property
    def length(self) -> int:
        """The parent's."""
        return self.parents[0].length

    @property
    def lineage(self) -> str:
        """The parent's, and the verb."""
        return f"{self.parents[0].lineage}.cache"

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return copies of the kept samples; those that are missing are made under epoch 0 and seed 0."""
        wanted = indices.tolist()
        with self._lock:
            missing = [index for index in dict.fromkeys(wanted) if index not in self._made]
            if missing:
                self._made.update(zip(missing, self.parents[0].samples(torch.tensor(missing), first_draw()), strict=True))
        return [copied(self._made[index]) for index in wanted]

    def column(self, part: str | int) -> Tensor | None:
        """Return the parent's."""
        return self.parents[0].column(part)

    def __getstate__(self) -> dict[str, Any]:
        return {"parents": self.parents, "schema": self.schema, "_made": self._made}  # a lock cannot travel to another process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def prepare(self) -> None:
        """Fill the cache."""
        super().prepare()
        self.samples(torch.arange(self.length), first_draw())
