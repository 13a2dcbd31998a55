"""Where samples come from: the nodes under a Dataset, and the leaves among them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchflow.data.calls import keyed_calls
from torchflow.data.collate import collate, copied, rows
from torchflow.data.draw import Draw
from torchflow.data.schema import Schema
from torchflow.errors import DataError
from torchflow.tree import leaves, map_leaves

MANY = 1024
"""Rows from which on it pays to look at how a column lies before they are chosen."""


class Source(ABC):
    """A node of the tree under a Dataset: a length, and two ways to read samples.

    Indices are int64 tensors of shape (batch,), all from 0 to length - 1; whoever calls has checked them.
    """

    parents: tuple[Source, ...] = ()
    schema: Schema | None = None
    divided, learnt_by = False, ""  # whether a split has divided these samples, and which encoder was fitted on all of them

    @property
    @abstractmethod
    def length(self) -> int:
        """How many samples there are."""

    @property
    @abstractmethod
    def lineage(self) -> str:
        """How the node was made, like ``from_tensors.select``."""

    @property
    def foreign(self) -> bool:
        """Whether Python of the user runs that may draw from the global generators."""
        return any(parent.foreign for parent in self.parents)

    @property
    def users(self) -> bool:
        """Whether making a sample runs Python of the user, which the start of a run should not."""
        return any(parent.users for parent in self.parents)

    @property
    def random(self) -> bool:
        """Whether a random map is in the tree, so that samples differ from epoch to epoch."""
        return any(parent.random for parent in self.parents)

    @property
    def columnar(self) -> bool:
        """Whether a batch costs no Python call a sample."""
        return all(parent.columnar for parent in self.parents)

    @property
    def shared(self) -> bool:
        """Whether threads can share a batch: somewhere below, its samples are read file by file."""
        return any(parent.shared for parent in self.parents)

    def column(self, part: str | int) -> Tensor | None:
        """Return a part of all samples by its key or position, shape (samples, ...), if it is known without making them."""
        return None

    def seams(self) -> Tensor:
        """Return the indices, in order, before which samples do not follow on: where a window would span two recordings, say."""
        return self.parents[0].seams() if len(self.parents) == 1 else torch.empty(0, dtype=torch.int64)

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """The files that could not be read and were left out by choice: pairs of a path and the reason."""
        return tuple(pair for parent in self.parents for pair in parent.skipped)

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """What folders held beside the files that are read: pairs of a path and the reason."""
        return tuple(pair for parent in self.parents for pair in parent.left_out)

    def stamp(self) -> str:
        """Return a digest of the files that samples are read from, cheap enough for every start; empty without files."""
        return "+".join(filter(None, [parent.stamp() for parent in self.parents]))

    def made_of(self) -> dict[str, Any]:
        """Return what samples depend on, by attribute: what would be pickled, without what is open."""
        state: Any = self.__getstate__()
        return dict(state or {})

    def times(self) -> tuple[int, ...]:
        """Return when each of those files was last changed, in nanoseconds: a cache on this machine looks at that too."""
        return tuple(time for parent in self.parents for time in parent.times())

    @abstractmethod
    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the samples, each one's tensors its own."""

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the collated samples: fresh tensors with a leading dimension (batch, ...)."""
        roots = indices if draw.roots is None else draw.roots
        return collate(self.samples(indices, draw), roots.tolist())

    def prepare(self) -> None:
        """Do now what is done once, before worker processes copy the tree."""
        for parent in self.parents:
            parent.prepare()


class Columns(Source):
    """Samples are the rows of a tree of tensors.

    Args:
        tree: Tensors of shape (samples, ...), nested as the samples are.
        lineage: The factory's name.
        schema: The columns' names, where they have any.
    """

    random = foreign = users = False
    columnar = True

    def __init__(self, tree: Any, lineage: str, schema: Schema | None = None) -> None:
        self.tree = tree
        self.schema = schema
        self._lineage = lineage
        first: Tensor = next(leaves(tree))
        self._length = first.shape[0]
        self._device = None if first.is_cpu else first.device
        self._flat = type(tree) is tuple and all(isinstance(column, Tensor) for column in tree)

    @property
    def length(self) -> int:
        """How many rows there are."""
        return self._length

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self._lineage

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the rows: one ``index_select`` a column, which copies."""
        if self._device is not None:
            indices = torch.as_tensor(indices, device=self._device)
        if self._flat and indices.shape[0] < MANY:  # the common case, without a recursion
            return tuple([column.index_select(0, indices) for column in self.tree])
        return map_leaves(partial(_chosen, indices=indices), self.tree)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the rows one by one."""
        return rows(self.batch(indices, draw), len(indices))

    def column(self, part: str | int) -> Tensor | None:
        """Return a column."""
        if isinstance(self.tree, Tensor):
            return self.tree if part == 0 else None
        found = None
        if isinstance(self.tree, Mapping):
            found = self.tree.get(part)
        elif isinstance(self.tree, tuple) and isinstance(part, int) and -len(self.tree) <= part < len(self.tree):
            found = self.tree[part]
        return found if isinstance(found, Tensor) else None


def _chosen(column: Tensor, indices: Tensor) -> Tensor:
    """Return rows; those of one number as numbers, which torch chooses seven times as fast as rows."""
    if column.numel() == column.shape[0] and column.is_contiguous():
        return column.view(-1).index_select(0, indices).view(indices.shape[0], *column.shape[1:])
    return column.index_select(0, indices)


class Items(Source):
    """Samples that lie in memory, one Python object each.

    Args:
        items: The samples; they are copied when read, so that nobody writes into them.
        lineage: The factory's name.
    """

    random = foreign = users = columnar = False

    def __init__(self, items: Sequence[Any], lineage: str) -> None:
        self._items = items
        self._lineage = lineage

    @property
    def length(self) -> int:
        """How many samples there are."""
        return len(self._items)

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self._lineage

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return copies of the samples."""
        return [copied(self._items[index]) for index in indices.tolist()]

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the collated samples, which are copied only once."""
        roots = indices if draw.roots is None else draw.roots
        return collate([self._items[index] for index in indices.tolist()], roots.tolist())


class Calls(Source):
    """Samples that a function of the user makes from an index.

    Before each call the global generators of torch, NumPy and :mod:`random` are put under the sample's key, and
    afterwards they are what they were.

    Args:
        function: From an index to a sample: a function, or the ``__getitem__`` of a foreign dataset.
        length: How many samples.
        lineage: What the error messages and checkpoints call it.
    """

    random = columnar = False
    foreign = users = True

    def __init__(self, function: Callable[[int], Any], length: int, lineage: str) -> None:
        self._function = function
        self._length = length
        self._lineage = lineage

    @property
    def length(self) -> int:
        """How many samples there are."""
        return self._length

    @property
    def lineage(self) -> str:
        """What was wrapped."""
        return self._lineage

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Call the function once a sample."""
        made = keyed_calls(self._function, indices.tolist(), indices, draw, self._lineage)
        for index, sample in zip(indices.tolist(), made, strict=True):
            if sample is None:
                raise DataError(f"{self._lineage} returned None for index {index}. Return a sample, or leave the index out.")
        return made
