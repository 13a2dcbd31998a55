"""The node of filter, and its scan."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchflow.data.draw import Draw, first_draw
from torchflow.data.maps import name_of
from torchflow.data.order import pieces
from torchflow.data.sources import Source, keyed_calls
from torchflow.data.views import Select


class Filter(Source):
    """The samples of a parent that a predicate wants, found by one scan at the first need.

    Args:
        parent: Where the samples are; without random maps.
        predicate: From a sample to True or False.
    """

    def __init__(self, parent: Source, predicate: Callable[[Any], object]) -> None:
        self.parents = (parent,)
        self.schema = parent.schema
        self._predicate = predicate
        self._found: Select | None = None
        self._lock = threading.Lock()

    @property
    def length(self) -> int:
        """How many samples the predicate wants."""
        return self._selected().length

    @property
    def lineage(self) -> str:
        """The parent's, and the verb."""
        return f"{self.parents[0].lineage}.filter"

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the batch of those that were found."""
        return self._selected().batch(indices, draw)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the samples of those that were found."""
        return self._selected().samples(indices, draw)

    def __getstate__(self) -> dict[str, Any]:
        return {"parents": self.parents, "schema": self.schema, "_predicate": self._predicate, "_found": self._selected()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def prepare(self) -> None:
        """Scan."""
        super().prepare()
        self._selected()

    def _selected(self) -> Select:
        """Return the selection, after the scan."""
        with self._lock:
            if self._found is None:
                parent, draw, wanted = self.parents[0], first_draw(), []
                for chunk in pieces(parent.length, 1024 if parent.columnar else 1):
                    verdicts = keyed_calls(
                        self._predicate, parent.samples(chunk, draw), chunk, draw, f"filter({name_of(self._predicate)})"
                    )
                    wanted += [index for index, verdict in zip(chunk.tolist(), verdicts, strict=True) if bool(verdict)]
                self._found = Select(parent, torch.tensor(wanted, dtype=torch.int64), "filter")
            return self._found
