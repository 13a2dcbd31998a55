"""The batches of several updates, stacked: what one call of compiled updates takes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import torch
from torch import Tensor

from torchflow.data.dataset_batches import DatasetBatches
from torchflow.run import Run
from torchflow.tree import leaves, leaves_with_paths, map_leaves

Windows: TypeAlias = Generator[tuple[list[Any], bool], None, None]
"""The batches of each update, and whether the epoch ends with them."""
AHEAD = 32
"""At most so many batches are read at once for groups that are smaller."""
AHEAD_BYTES = 2**17
"""And at most so many bytes: what stays in a processor's cache until it is used."""


class Group(NamedTuple):
    """The batches of several updates that are made together."""

    stacked: tuple[Tensor, ...]
    """Every leaf of every batch of an update, the batches one after the other, each (updates, samples, ...)."""
    like: Any
    """A tree of the shape of one batch, whatever its leaves."""
    updates: int
    """How many updates."""
    accumulate: int
    """How many batches an update has."""

    def window(self, update: int) -> list[Any]:
        """Return copies of the batches of one update."""
        rows = iter([leaf[update].clone() for leaf in self.stacked])
        return [map_leaves(lambda _: next(rows), self.like) for _ in range(self.accumulate)]

    def split(self, updates: int) -> tuple[Group, Group]:
        """Return the first updates and the others."""
        first, rest = tuple(leaf[:updates] for leaf in self.stacked), tuple(leaf[updates:] for leaf in self.stacked)
        return Group(first, self.like, updates, self.accumulate), Group(rest, self.like, self.updates - updates, self.accumulate)


def grouped(
    run: Run[Any, Any], size: int, ahead: int, windows: Callable[[Run[Any, Any]], Windows]
) -> Iterator[tuple[Group | list[Any], bool]]:
    """Yield the groups of an epoch from the run's position on, and whether the epoch ends with each.

    Groups lie on a grid from the epoch's start. Updates whose batches are not shaped as the run's first come by themselves, as
    lists of batches.

    Args:
        run: The run; its progress moves between two groups.
        size: Updates of a group.
        ahead: How many groups are read at once, as :func:`groups_ahead` says.
        windows: The windows of an epoch from the run's position on, one by one.
    """
    batches, accumulate, position = run.batches, run.choices.accumulate, run.progress.batch
    if not _joins(batches):
        yield from _gathered(run, size, windows(run))
        return
    epoch, updates = run.progress.epoch, batches.whole // accumulate
    update, block = position // accumulate, size * ahead
    while update < updates:
        # A block is read whole, wherever a run goes on in it: what a batch is made with may decide its last bit.
        start = update if ahead == 1 else update - update % block
        end = min(update - update % block + block, updates)
        joined = batches.joined(epoch, start * accumulate, (end - start) * accumulate)
        for group in _groups(_cut(joined, end - start, accumulate), joined, accumulate, size, skipped=update - start):
            update += group.updates
            yield group, update * accumulate == batches.length
    if update * accumulate < (batches.length or 0):
        yield from windows(run)


def groups_ahead(run: Run[Any, Any], size: int) -> int:
    """Return how many groups to read at once: several where reading one costs more than what is in it.

    Each batch then lies as a fresh tensor would, on a border of 64 bytes, for results may depend on it.
    """
    batches, accumulate = run.batches, run.choices.accumulate
    if not _joins(batches) or size * accumulate > AHEAD or batches.whole < accumulate:
        return 1
    sizes: list[int] = [leaf.nbytes for leaf in leaves(batches.joined(0, 0, 1))]
    if any(number % 64 for number in sizes):
        return 1
    return max(1, min(AHEAD, AHEAD_BYTES // max(1, sum(sizes))) // (size * accumulate))


def _joins(batches: object) -> TypeGuard[DatasetBatches]:
    return isinstance(batches, DatasetBatches) and batches.joins


def _groups(stacked: tuple[Tensor, ...], like: Any, accumulate: int, size: int, skipped: int) -> Iterator[Group]:
    """Cut stacked batches into groups, the first updates left out."""
    updates = stacked[0].shape[0]
    if updates <= size and not skipped:
        yield Group(stacked, like, updates, accumulate)
        return
    for start, *leaves_of_group in zip(range(0, updates, size), *[torch.split(leaf, size) for leaf in stacked], strict=True):
        group = Group(tuple(leaves_of_group), like, min(size, updates - start), accumulate)
        left_out = skipped - start
        if left_out <= 0:
            yield group
        elif left_out < group.updates:
            yield group.split(left_out)[1]


def _gathered(run: Run[Any, Any], size: int, windows: Windows) -> Iterator[tuple[Group | list[Any], bool]]:
    """Stack windows that are read one by one."""
    update, like = run.progress.batch // run.choices.accumulate, _first_shapes(run)
    gathered: list[list[Any]] = []
    for window, last in windows:
        shapes = _shapes(window)
        like = like or shapes
        fits = shapes == like and len(window) == run.choices.accumulate and all(isinstance(leaf, Tensor) for leaf in leaves(window))
        if gathered and not fits:
            yield _stack(gathered), False
            gathered = []
        update += 1
        if not fits:
            yield window, last
            continue
        gathered.append(window)
        if last or update % size == 0:
            yield _stack(gathered), last
            gathered = []


def _first_shapes(run: Run[Any, Any]) -> list[Any] | None:
    """Return the shapes of the run's first batch, as a window of its like would have them; None where it is yet to be read."""
    if not run.progress.updates:
        return None
    made = run.batches.epoch(0)
    first = next(iter(made))
    return _shapes([first] * run.choices.accumulate)


def _shapes(window: list[Any]) -> list[Any]:
    return [(path, getattr(leaf, "shape", None), getattr(leaf, "dtype", type(leaf))) for path, leaf in leaves_with_paths(window)]


def _cut(joined: Any, updates: int, accumulate: int) -> tuple[Tensor, ...]:
    """Cut rows of several batches into those of each update."""
    flat = joined if type(joined) is tuple else leaves(joined)
    if accumulate == 1:
        return tuple([leaf.view(updates, -1, *leaf.shape[1:]) for leaf in flat])
    each = [leaf.view(updates, accumulate, -1, *leaf.shape[1:]) for leaf in flat]
    return tuple(leaf[:, number].contiguous() for number in range(accumulate) for leaf in each)


def _stack(windows: list[list[Any]]) -> Group:
    """Return windows as a group."""
    columns = zip(*(leaves(window) for window in windows), strict=True)
    return Group(tuple(torch.stack(column) for column in columns), windows[0][0], len(windows), len(windows[0]))
