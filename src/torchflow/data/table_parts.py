"""What a fitted TableEncoder does with one column: numbers, dates, levels of a category, words of a text."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from torchflow.data.table_cells import moments_of, numbers_of, place_in, texts_of, words_of
from torchflow.errors import DataError
from torchflow.types import State

MISSING, OTHER = "(missing)", "(other)"


@dataclass(frozen=True)
class Part(ABC):
    """A fitted column.

    Attributes:
        column: Its name in the table.
        missing: What becomes of gaps: "error", "fill" or "indicator".
    """

    kind: ClassVar[str]
    column: str
    missing: str

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The names of the numbers that it becomes."""

    @abstractmethod
    def encode(self, cells: Any) -> Tensor:
        """Return float64 (batch, names) of the cells of a batch: a tensor (batch,) or a list of texts.

        Raises:
            DataError: A gap that is refused, or cells of another kind.
        """

    def state(self) -> dict[str, State]:
        """Return the kind and everything that was learnt."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"kind": self.kind, **plain}

    def refuse_gaps(self, gaps: Tensor) -> None:
        """Refuse gaps, shape (batch,), where they are errors.

        Raises:
            DataError: There is one.
        """
        if self.missing == "error" and bool(gaps.any()):
            raise DataError(f"column {self.column!r} has a gap in row {int(gaps.nonzero()[0])} of the batch. {REMEDY}")


REMEDY = 'Fit with missing="fill" or missing="indicator", or leave out that row or column.'


@dataclass(frozen=True)
class Number(Part):
    """A column of numbers: shifted and scaled, gaps at the training mean.

    Attributes:
        mean: What is subtracted.
        std: What the rest is divided by.
        fill: What a gap becomes, after that.
        indicator: Whether a second number says where gaps were.
    """

    kind = "number"
    mean: float
    std: float
    fill: float
    indicator: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The column's name, and its indicator's."""
        return (self.column, f"{self.column} missing") if self.indicator else (self.column,)

    def encode(self, cells: Any) -> Tensor:
        """Return the scaled numbers, and 1 for every gap."""
        values = numbers_of(cells, self.column)
        gaps = values.isnan()
        self.refuse_gaps(gaps)
        scaled = ((values - self.mean) / self.std).masked_fill(gaps, self.fill)
        return torch.stack([scaled, gaps.type(torch.float64)], dim=1) if self.indicator else scaled[:, None]


@dataclass(frozen=True)
class Moment(Part):
    """A column of dates: days since the training mean in units of their spread, and places in cycles as sine and cosine.

    Attributes:
        mean: Seconds since 1970.
        std: Seconds.
        indicator: Whether a last number says where gaps were.
        cycles: Some of "year", "month", "week" and "day".
    """

    kind = "moment"
    mean: float
    std: float
    indicator: bool
    cycles: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The column's name, two for each cycle, and its indicator's."""
        waves = (f"{self.column} {wave}({cycle})" for cycle in self.cycles for wave in ("sin", "cos"))
        return (self.column, *waves, *([f"{self.column} missing"] if self.indicator else []))

    def encode(self, cells: Any) -> Tensor:
        """Return the scaled dates, sine and cosine of each cycle, and 1 for every gap; gaps are 0 elsewhere."""
        seconds = moments_of(cells, self.column)
        gaps = seconds.isnan()
        self.refuse_gaps(gaps)
        filled = seconds.masked_fill(gaps, self.mean)
        made = [(filled - self.mean) / self.std]
        for cycle in self.cycles:
            turn = 2 * math.pi * place_in(cycle, filled)
            made += [turn.sin(), turn.cos()]
        made = [values.masked_fill(gaps, 0.0) for values in made]
        return torch.stack([*made, gaps.type(torch.float64)] if self.indicator else made, dim=1)


@dataclass(frozen=True)
class Levels(Part):
    """A column of categories.

    Attributes:
        levels: The known levels, in the order of their codes; the two below follow them.
        rare: Levels of the training split that were too rare to stand for themselves.
        other: Whether the level "(other)" exists, for rare levels and, if ``unknown`` is "other", for unknown ones.
        gap: Whether the level "(missing)" exists.
        fill: The level that a gap becomes where gaps are filled.
        unknown: "error" or "other".
    """

    kind = "levels"
    levels: tuple[str, ...]
    rare: tuple[str, ...]
    other: bool
    gap: bool
    fill: str
    unknown: str

    @property
    def all_levels(self) -> tuple[str, ...]:
        """The levels, "(other)" and "(missing)" included."""
        return (*self.levels, *([OTHER] if self.other else []), *([MISSING] if self.gap else []))

    @property
    def names(self) -> tuple[str, ...]:
        """The column's name and each level, as in ``sex=male``."""
        return tuple(f"{self.column}={level}" for level in self.all_levels)

    @property
    def size(self) -> int:
        """How many codes there are, as in ``nn.Embedding(size, ...)``."""
        return len(self.levels) + self.other + self.gap

    @cached_property
    def _codes(self) -> dict[str, int]:
        codes = {level: code for code, level in enumerate(self.levels)}
        codes.update(dict.fromkeys(self.rare, len(self.levels)))
        if self.gap:
            codes[""] = self.size - 1
        elif self.missing != "error":
            codes[""] = codes[self.fill]
        return codes

    def codes(self, cells: Any) -> Tensor:
        """Return int64 codes (batch,).

        Raises:
            DataError: A gap that is refused, or a level that the training split did not have.
        """
        known, texts = self._codes, texts_of(cells, self.column)
        if self.unknown == "other":
            default = len(self.levels)
            if "" not in known:
                self.refuse_gaps(torch.tensor([text == "" for text in texts], dtype=torch.bool))
            return torch.tensor([known.get(text, default) for text in texts], dtype=torch.int64)
        try:
            return torch.tensor([known[text] for text in texts], dtype=torch.int64)
        except KeyError:
            self.refuse_gaps(torch.tensor([text == "" for text in texts], dtype=torch.bool))
            wrong = next(text for text in texts if text not in known)
        some = ", ".join(map(repr, self.levels[:8])) + (", ..." if len(self.levels) > 8 else "")
        remedy = 'Fit with unknown="other" to give such values a level of their own.'
        raise DataError(f"column {self.column!r} holds {wrong!r}, which the training split did not have: it had {some}. {remedy}")

    def encode(self, cells: Any) -> Tensor:
        """Return a 1 at the place of each row's level, and 0 elsewhere."""
        codes = self.codes(cells)
        return torch.zeros(len(codes), self.size, dtype=torch.float64).scatter_(1, codes[:, None], 1.0)


@dataclass(frozen=True)
class Words(Part):
    """A column of texts: how often each known word stands there, as log(1 + count); a gap has no words.

    Attributes:
        words: The known words, the most frequent first.
    """

    kind = "words"
    words: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The column's name and each word, as in ``title:flow``."""
        return tuple(f"{self.column}:{word}" for word in self.words)

    def encode(self, cells: Any) -> Tensor:
        """Return the logarithms of the counts."""
        places = {word: place for place, word in enumerate(self.words)}
        made = torch.zeros(len(cells), len(self.words), dtype=torch.float64)
        for row, text in enumerate(texts_of(cells, self.column)):
            for word, count in words_of(text).items():
                if word in places:
                    made[row, places[word]] = math.log1p(count)
        return made
