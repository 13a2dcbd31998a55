"""What a TableEncoder learns from each column of the training split, in one pass over its batches."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchflow.data.table_cells import moments_of, numbers_of, texts_of, words_of
from torchflow.data.table_parts import REMEDY, Levels, Moment, Number, Part, Words
from torchflow.data.table_targets import GAP_IN_TARGET
from torchflow.errors import DataError

_CONSTANT = 1e-12  # of its mean: below that a spread is rounding


@dataclass(frozen=True, slots=True)
class Choices:
    """How columns are encoded; the arguments of :class:`torchflow.data.TableEncoder`."""

    unknown: str
    min_count: int
    max_levels: int
    words: int
    cycles: tuple[str, ...]
    standardize: bool


class Learner(ABC):
    """What is learnt from one column.

    Args:
        column: Its name.
        missing: What becomes of gaps; None for a target, which may have none.
    """

    def __init__(self, column: str, missing: str | None) -> None:
        self.column = column
        self.target = missing is None
        self.missing = missing or "error"
        self.gaps = 0

    @abstractmethod
    def learn(self, cells: Any, first: int) -> None:
        """Learn from the cells of a batch, whose first row is sample ``first``.

        Raises:
            DataError: A gap that is refused, or cells of another kind.
        """

    @abstractmethod
    def fitted(self, choices: Choices) -> Part:
        """Return the fitted column.

        Raises:
            DataError: There was nothing to learn from.
        """

    def count_gaps(self, gaps: Tensor | list[bool], first: int) -> None:
        """Count gaps, and refuse them where they are errors."""
        listed = gaps.tolist() if isinstance(gaps, Tensor) else gaps
        found = sum(listed)
        if found and self.missing == "error":
            remedy = GAP_IN_TARGET if self.target else REMEDY
            what = "target" if self.target else "column"
            raise DataError(
                f"{what} {self.column!r} has a gap at sample {first + listed.index(True)} of the training split. {remedy}"
            )
        self.gaps += found


class Moments(Learner):
    """The mean and the spread of numbers, batches merged as in Chan, Golub and LeVeque (1979)."""

    def __init__(self, column: str, missing: str | None, dates: bool = False) -> None:
        super().__init__(column, missing)
        self._dates = dates
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def learn(self, cells: Any, first: int) -> None:
        """Learn from numbers or dates."""
        values = moments_of(cells, self.column) if self._dates else numbers_of(cells, self.column)
        gaps = values.isnan()
        self.count_gaps(gaps, first)
        there = values[~gaps]
        if len(there):
            size, centre = len(there), float(there.mean())
            shift, total = centre - self._mean, self._count + len(there)
            self._squares += float(((there - centre) ** 2).sum()) + shift**2 * (self._count * size / total)
            self._mean += shift * (size / total)
            self._count = total

    def scale(self) -> tuple[float, float]:
        """Return the mean and the standard deviation of the population, 1 where all are alike."""
        if not self._count:
            raise DataError(f"column {self.column!r} has nothing but gaps in the training split. Leave it out.")
        std = float((self._squares / self._count) ** 0.5)
        return self._mean, std if std > _CONSTANT * abs(self._mean) else 1.0

    def fitted(self, choices: Choices) -> Part:
        """Return the scaled number or date."""
        mean, std = self.scale()
        indicator = self.missing == "indicator" and self.gaps > 0
        if self._dates:
            return Moment(self.column, self.missing, mean, std, indicator, choices.cycles)
        return Number(self.column, self.missing, *((mean, std, 0.0) if choices.standardize else (0.0, 1.0, mean)), indicator)


class LevelCounts(Learner):
    """How often each level stands there."""

    def __init__(self, column: str, missing: str | None) -> None:
        super().__init__(column, missing)
        self.counts: Counter[str] = Counter()

    def learn(self, cells: Any, first: int) -> None:
        """Count levels."""
        texts = texts_of(cells, self.column)
        self.count_gaps([text == "" for text in texts], first)
        self.counts.update(text for text in texts if text)

    def levels(self) -> list[str]:
        """Return the levels, sorted: numbers by value, texts by their characters."""
        if not self.counts:
            raise DataError(f"column {self.column!r} has nothing but gaps in the training split. Leave it out.")
        try:
            values = {level: float(level) for level in self.counts}
        except ValueError:
            return sorted(self.counts)
        return (
            sorted(self.counts, key=lambda level: (values[level], level))
            if all(map(math.isfinite, values.values()))
            else sorted(self.counts)
        )

    def fitted(self, choices: Choices) -> Part:
        """Return the levels, rare ones together."""
        levels = self.levels()
        rare = tuple(level for level in levels if self.counts[level] < choices.min_count)
        kept = tuple(level for level in levels if self.counts[level] >= choices.min_count)
        if len(kept) > choices.max_levels:
            said = f"column {self.column!r} has {len(kept):,} different values, and at most {choices.max_levels:,} become levels"
            raise DataError(f"{said}. Leave it out, name it in text=, put rare ones together with min_count=, or pass max_levels=.")
        fill = max(kept, key=lambda level: self.counts[level]) if kept else ""
        other = bool(rare) or choices.unknown == "other"
        gap = self.missing == "indicator" and self.gaps > 0
        if not kept and self.missing != "error" and not gap:
            raise DataError(f"column {self.column!r} has no level that stands {choices.min_count} times. Lower min_count.")
        return Levels(self.column, self.missing, kept, rare, other, gap, fill, choices.unknown)


class WordCounts(Learner):
    """How often each word stands in all texts."""

    def __init__(self, column: str, missing: str | None) -> None:
        super().__init__(column, missing)
        self._counts: Counter[str] = Counter()

    def learn(self, cells: Any, first: int) -> None:
        """Count words."""
        for text in texts_of(cells, self.column):
            self._counts.update(words_of(text))

    def fitted(self, choices: Choices) -> Part:
        """Return the most frequent words; of equally frequent ones those that come first in the alphabet."""
        ordered = sorted(self._counts, key=lambda word: (-self._counts[word], word))
        if not ordered:
            raise DataError(f"column {self.column!r} has no words in the training split. Leave it out.")
        return Words(self.column, self.missing, tuple(ordered[: choices.words]))
