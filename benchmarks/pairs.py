"""Timings in turns: the same alternation as in benchmarks.speed, for functions that time themselves."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Pair(NamedTuple):
    """What a function took beside the first one, in the same rounds."""

    seconds: float
    ratio: float
    quartiles: tuple[float, float]


def in_turns(functions: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Pair]:
    """Call every function once a round, in turned order, and compare each with the first one.

    Args:
        functions: By name; each returns the seconds that it took.
        rounds: How many rounds count; one more comes before them and warms up.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name in list(functions)[:: -1 if turn % 2 else 1]:
            seconds = functions[name]()
            if turn:
                times[name].append(seconds)
    first = next(iter(times.values()))
    return {name: _pair(own, first) for name, own in times.items()}


def _pair(own: list[float], first: list[float]) -> Pair:
    ratios = [mine / theirs for mine, theirs in zip(own, first, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else [ratios[0]] * 3
    return Pair(statistics.median(own), middle, (low, high))
