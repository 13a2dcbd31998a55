"""How samples are divided by what they are: by class in equal shares, by group undivided, by time in order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from torchflow.data.order import order_of
from torchflow.errors import ArgumentValueError
from torchflow.randomness import key

_TOLERANCE = 1e-9  # 0.29 * 100 is 28.999999999999996


def shuffled(codes: Tensor, seed: int, purpose: str) -> list[Tensor]:
    """Return the places of every code, each in a random order."""
    order = order_of(len(codes), key(seed, purpose))[0 : len(codes)]
    by_code = order.index_select(0, torch.sort(codes.index_select(0, order), stable=True).indices)
    return list(torch.split(by_code, torch.bincount(codes).tolist()))


def stratified(codes: Tensor, fractions: Sequence[float], sizes: Sequence[int], seed: int) -> list[Tensor]:
    """Return the places of each part, every class in all of them by its share.

    Of a class with n samples a part of fraction f gets ``f * n`` rounded up or down; the parts' sizes are those that were asked for, or
    one away where no rounding gives them.

    Args:
        codes: int64 classes from 0 on, shape (samples,).
        fractions: The share of each part; they sum to 1.
        sizes: How many samples each part has.
        seed: Names the shuffle.
    """
    classes = shuffled(codes, seed, "split")
    counts = allotted([len(places) for places in classes], fractions, sizes)
    pieces = [torch.split(places, row) for places, row in zip(classes, counts, strict=True)]
    return [_mixed(torch.cat([row[part] for row in pieces]), seed, part) for part in range(len(sizes))]


def allotted(counts: Sequence[int], fractions: Sequence[float], sizes: Sequence[int]) -> list[list[int]]:
    """Return how many samples of each class go into each part: controlled rounding of ``count * fraction``.

    Every row sums to its count, every number is its exact share rounded up or down. The places that are left over by rounding down go
    to the parts that are furthest behind; then single samples are passed on along the shortest way between a part that
    has too many and one that has too few, as long as there is one (Bacharach, 1966).
    """
    shares = [[count * fraction for fraction in fractions] for count in counts]
    floors = [[math.floor(share + _TOLERANCE) for share in row] for row in shares]
    able = [
        [share - low > _TOLERANCE for share, low in zip(row, lows, strict=True)] for row, lows in zip(shares, floors, strict=True)
    ]
    up = [[0] * len(sizes) for _ in counts]
    behind = [0.0] * len(sizes)
    for row, count in enumerate(counts):
        behind = [lag + share - low for lag, share, low in zip(behind, shares[row], floors[row], strict=True)]
        parts = [part for part in range(len(sizes)) if able[row][part]]
        for part in sorted(parts, key=lambda part: -behind[part])[: count - sum(floors[row])]:
            up[row][part] = 1
            behind[part] -= 1
    while True:
        made = [[low + more for low, more in zip(floors[row], up[row], strict=True)] for row in range(len(counts))]
        way = _way(up, able, [sum(row[part] for row in made) - size for part, size in enumerate(sizes)])
        if not way:
            return made
        for row, giver, taker in way:
            up[row][giver], up[row][taker] = 0, 1


def _way(up: list[list[int]], able: list[list[bool]], surplus: list[int]) -> list[tuple[int, int, int]]:
    """Return steps ``(class, giver, taker)`` from a part with too many samples to one with too few; empty if there is none."""
    came: dict[int, tuple[int, int, int] | None] = {part: None for part, extra in enumerate(surplus) if extra > 0}
    waiting = deque(came)
    while waiting:
        giver = waiting.popleft()
        if surplus[giver] < 0:
            way: list[tuple[int, int, int]] = []
            step = came[giver]
            while step is not None:
                way.append(step)
                step = came[step[1]]
            return way
        for row in range(len(up)):
            if up[row][giver]:
                for taker in range(len(surplus)):
                    if taker not in came and able[row][taker] and not up[row][taker]:
                        came[taker] = (row, giver, taker)
                        waiting.append(taker)
    return []


def grouped(codes: Tensor, sizes: Sequence[float], seed: int, verb: str) -> list[Tensor]:
    """Return the places of each part, no group in two of them.

    Groups come in a random order (of ``kfold`` the largest first), each to the part that is furthest from its size: the
    sizes are met to within the largest group.

    Raises:
        ArgumentValueError: There are fewer groups than parts.
    """
    groups = shuffled(codes, seed, verb)
    if len(groups) < len(sizes):
        raise ArgumentValueError(f"{len(sizes)} parts need at least as many groups, got {len(groups)}. Use fewer parts.")
    order = order_of(len(groups), key(seed, f"{verb}-groups"))[0 : len(groups)].tolist()
    if verb == "kfold":
        order.sort(key=lambda number: -len(groups[number]))
    parts: list[list[Tensor]] = [[] for _ in sizes]
    filled = [0] * len(sizes)
    for number in order:
        empty = [part for part in range(len(sizes)) if not parts[part]]
        left = len(order) - sum(map(len, parts))
        wanting = empty if len(empty) == left else range(len(sizes))  # the last groups are for parts that have none
        part = min(wanting, key=lambda part: filled[part] / sizes[part])
        parts[part].append(groups[number])
        filled[part] += len(groups[number])
    return [torch.cat(members).sort().values for members in parts]  # in their order, as series need it


def ordered(times: Tensor | None, length: int, sizes: Sequence[int], gap: int, argument: str) -> list[Tensor]:
    """Return the places of each part in the order of time, every part later than the one before.

    Args:
        times: int64 codes in the order of time, shape (samples,); None where samples are in order.
        length: How many samples.
        sizes: How many samples each part has, with what gaps leave.
        gap: How many samples are left out between two parts.
        argument: What the message calls the split.

    Raises:
        ArgumentValueError: A part is left empty, because samples of one time are never divided.
    """
    order = torch.arange(length) if times is None else torch.sort(times, stable=True).indices
    starts = [0, *(size + gap for size in accumulate_with(gap, sizes[:-1]))]
    parts = []
    latest = 0
    for start, size in zip(starts, sizes, strict=True):
        begin, end = max(start, latest), start + size
        if times is not None:
            begin, end = _whole_times(times, order, begin, end)
        if begin >= end:
            raise ArgumentValueError(
                f"a part of {argument} would be empty: samples of one time stay together. Use fewer or larger parts."
            )
        parts.append(order[begin:end])
        latest = end + gap
    return parts


def accumulate_with(gap: int, sizes: Sequence[int]) -> list[int]:
    """Return where each part ends, with a gap after each."""
    return [end + gap * place for place, end in enumerate(accumulate(sizes))]


def _whole_times(times: Tensor, order: Tensor, begin: int, end: int) -> tuple[int, int]:
    """Return a part's range with both ends moved on to where another time begins."""
    sorted_times = times.index_select(0, order)
    ends = [begin, end]
    for place, position in enumerate(ends):
        if 0 < position < len(order):
            ends[place] = int(torch.searchsorted(sorted_times, sorted_times[position - 1], right=True))
    return ends[0], ends[1]


def _mixed(places: Tensor, seed: int, part: int) -> Tensor:
    """Return places in a random order, so that classes and groups do not stand one after the other."""
    return places.index_select(0, order_of(len(places), key(seed, "part", part))[0 : len(places)])


def dealt(codes: Tensor, folds: int, seed: int) -> list[Tensor]:
    """Return the places of each fold, dealt class by class around, so that folds differ by one in size and in every class."""
    places = torch.cat(shuffled(codes, seed, "kfold"))
    return [_mixed(places[fold::folds], seed, fold) for fold in range(folds)]
