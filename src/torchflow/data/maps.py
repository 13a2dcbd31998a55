"""Nodes that change samples: map, map_batch, map_random; and the scan of a filter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchflow.data.calls import guarded, keyed_calls
from torchflow.data.collate import rows
from torchflow.data.draw import Draw, first_draw
from torchflow.data.order import pieces
from torchflow.data.schema import after
from torchflow.data.sources import Source
from torchflow.data.views import Select
from torchflow.errors import DataError
from torchflow.randomness import generator
from torchflow.tree import leaves_with_paths


class Map(Source):
    """A function of the user on every sample; global generators are keyed before each call.

    Args:
        parent: Where the samples are.
        function: From a sample to a sample.
    """

    foreign = users = True
    columnar = False

    def __init__(self, parent: Source, function: Callable[[Any], Any]) -> None:
        self.parents = (parent,)
        self._function = function
        self.schema = after(function, parent.schema)

    @property
    def length(self) -> int:
        """The parent's."""
        return self.parents[0].length

    @property
    def lineage(self) -> str:
        """The parent's, and the verb."""
        return f"{self.parents[0].lineage}.map"

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Call the function once a sample."""
        values = self.parents[0].samples(indices, draw.below(0))
        roots = indices if draw.roots is None else draw.roots
        return keyed_calls(self._function, values, roots, draw, f"map({_name(self._function)})")


class MapRandom(Source):
    """A function of the user on every sample and a generator under the sample's key.

    Args:
        parent: Where the samples are.
        function: From a sample and a ``torch.Generator`` to a sample.
        name: Maps of one name draw equally; None draws apart from every other map.
    """

    random = True
    columnar = False

    def __init__(self, parent: Source, function: Callable[[Any, torch.Generator], Any], name: str | None) -> None:
        self.parents = (parent,)
        self._function = function
        self.schema = after(function, parent.schema)
        self._name = name

    @property
    def length(self) -> int:
        """The parent's."""
        return self.parents[0].length

    @property
    def lineage(self) -> str:
        """The parent's, and the verb."""
        return f"{self.parents[0].lineage}.map_random"

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Call the function once a sample, with a generator of its own."""
        values = self.parents[0].samples(indices, draw.below(0))
        own = draw if self._name is None else draw.named(self._name)
        roots = (indices if draw.roots is None else draw.roots).tolist()
        place = f"map_random({_name(self._function)})"
        return [
            guarded(place, root, self._function, value, generator(number))
            for value, number, root in zip(values, own.numbers(indices), roots, strict=True)
        ]


class MapBatch(Source):
    """A vectorised function of the user on whole batches.

    Args:
        parent: Where the samples are.
        function: From a collated batch to a batch of as many samples, row by row.
    """

    def __init__(self, parent: Source, function: Callable[[Any], Any]) -> None:
        self.parents = (parent,)
        self._function = function
        self.schema = after(function, parent.schema)

    @property
    def length(self) -> int:
        """The parent's."""
        return self.parents[0].length

    @property
    def lineage(self) -> str:
        """The parent's, and the verb."""
        return f"{self.parents[0].lineage}.map_batch"

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Call the function on the parent's batch, and count what it returns."""
        roots = indices if draw.roots is None else draw.roots
        place = f"map_batch({_name(self._function)})"
        first = int(roots[0]) if len(roots) else -1
        made = guarded(place, first, self._function, self.parents[0].batch(indices, draw.below(0)))
        for path, leaf in leaves_with_paths(made):
            if isinstance(leaf, (str, bytes)):  # texts stay a list, whose items are the leaves
                continue
            shape = tuple(leaf.shape) if isinstance(leaf, Tensor) else ()
            if not shape or shape[0] != len(indices):
                found = f"shape {shape}" if isinstance(leaf, Tensor) else f"a {type(leaf).__name__}"
                raise DataError(
                    f"{place} got a batch of {len(indices)} samples and returned {found}{f' at {path}' if path else ''}. "
                    "It must return one row a sample; use filter to leave samples out."
                )
        return made

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the rows of the batch."""
        return rows(self.batch(indices, draw), len(indices))


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

    def seams(self) -> Tensor:
        """Return where a seam of the parent lies between two that were found."""
        return self._selected().seams()

    def column(self, part: str | int) -> Tensor | None:
        """Return the parent's column at those that were found."""
        return self._selected().column(part)

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
                        self._predicate, parent.samples(chunk, draw), chunk, draw, f"filter({_name(self._predicate)})"
                    )
                    wanted += [index for index, verdict in zip(chunk.tolist(), verdicts, strict=True) if bool(verdict)]
                self._found = Select(parent, torch.tensor(wanted, dtype=torch.int64), "filter")
            return self._found


def _name(function: Callable[..., Any]) -> str:
    """Return what a function calls itself."""
    return str(getattr(function, "__qualname__", type(function).__name__))
