"""From cells of text to columns: what kind a column is follows from all of its cells."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from torchflow.data.readers.columns import EXACT, Column, Text

Values = np.ndarray[Any, Any]

_NO_NUMBER = re.compile(r"_|(?:^|\n)[+-]?0[0-9]")
"""float() reads "1_000", which no other program does; and "007" is a code, whose zeros would be lost."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?")
_TRUTH = {"true": 1, "false": 0}


class Growing:
    """A column while its cells come in, a chunk at a time.

    A column is true or false, of whole numbers, of numbers or of dates where all its cells are, gaps left out; otherwise it is
    of texts. Where that shows late, the cells before are gone: ``incomplete`` says that they must be read again, as texts.

    Args:
        gaps: What stands for a gap, in small letters.
        text: Whether it is of texts, whatever its cells are.
    """

    def __init__(self, gaps: frozenset[str], text: bool = False) -> None:
        self._gaps = gaps
        self._numbers_are_cells = not any(_is_number(gap) for gap in gaps - {"nan"})
        self._kind: str | None = "text" if text else None
        self._chunks: list[Values | int] = []  # an int counts gaps
        self._known: dict[str, int] = {}
        self._codes = array("i")
        self._has_gaps = False
        self.incomplete = False

    def extend(self, cells: Sequence[str]) -> None:
        """Add cells, without spaces around them."""
        if self._kind == "text":
            if not self.incomplete:
                self._add_texts(cells)
            return
        if self._add_numbers(cells):
            return
        filled = [cell for cell in cells if cell.lower() not in self._gaps]
        if not filled:
            self._chunks.append(len(cells))
            self._has_gaps = True
            return
        kind, values = _parsed(self._kind, filled)
        if kind == "text":
            self._become_text(cells)
            return
        self._kind = kind
        if len(filled) < len(cells):
            self._has_gaps = True
            there = np.fromiter((cell.lower() not in self._gaps for cell in cells), dtype=bool, count=len(cells))
            whole = np.full(len(cells), np.nan)
            # Beyond 2^53 a float64 would change whole numbers, and the column is kept as texts instead.
            if kind == "whole" and _beyond(values):
                self._become_text(cells)
                return
            whole[there] = values
            values = whole
        self._chunks.append(values)

    @property
    def kind(self) -> str | None:
        """What the cells so far are: truth, whole, number, date or text; None where all are gaps."""
        return self._kind

    def column(self) -> tuple[Column, bool]:
        """Return the column, and whether it holds dates; ``incomplete`` is to be asked first."""
        if self._kind == "text":
            return Text(self._known, torch.from_numpy(np.frombuffer(self._codes, dtype=np.int32).copy())), False
        parts = [np.full(chunk, np.nan) if isinstance(chunk, int) else chunk for chunk in self._chunks]
        values: Values = np.concatenate(parts) if parts else np.empty(0)
        if self._kind == "truth" and not self._has_gaps:
            values = values.astype(bool)
        elif self._kind == "whole" and not self._has_gaps:
            values = values.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(values)), self._kind == "date"

    def finish(self) -> None:
        """Look at the whole: gaps beside whole numbers that no float64 holds make it a column of texts."""
        chunks = [chunk for chunk in self._chunks if not isinstance(chunk, int) and chunk.dtype == np.int64 and chunk.size]
        mixed = self._has_gaps or any(not isinstance(chunk, int) and chunk.dtype != np.int64 for chunk in self._chunks)
        if self._kind == "whole" and mixed and any(_beyond(chunk) for chunk in chunks):
            self._become_text(())

    def _add_numbers(self, cells: Sequence[str]) -> bool:
        """Add cells that are all numbers at once, where that may be; return whether they were."""
        if self._kind not in (None, "whole", "number") or not self._numbers_are_cells:
            return False
        for kind, parse in _KINDS[2:3] if self._kind == "number" else _KINDS[1:3]:
            try:
                values = parse(cells)
            except (ValueError, OverflowError):
                continue
            if kind == "number" and np.isnan(values).any():  # a gap, whose kind is for the longer way to find
                return False
            self._kind = kind
            self._chunks.append(values)
            return True
        return False

    def _become_text(self, cells: Sequence[str]) -> None:
        only_gaps = all(isinstance(chunk, int) for chunk in self._chunks)
        before = sum(chunk for chunk in self._chunks if isinstance(chunk, int))
        self.incomplete = not only_gaps
        self._kind, self._chunks = "text", []
        if only_gaps:
            self._add_texts([""] * before)
            self._add_texts(cells)

    def _add_texts(self, cells: Sequence[str]) -> None:
        known, gaps = self._known, self._gaps
        self._codes.extend([known.setdefault("" if cell.lower() in gaps else cell, len(known)) for cell in cells])


def _beyond(values: Values) -> bool:
    """Return whether some whole numbers are so large that float64 would change them."""
    return bool(int(values.max()) > EXACT or int(values.min()) < -EXACT)


def _parsed(kind: str | None, cells: list[str]) -> tuple[str, Values]:
    """Return the narrowest kind, from ``kind`` on, that fits all cells, and their values."""
    for wider, parse in _WIDER[kind]:
        try:
            return wider, parse(cells)
        except (ValueError, OverflowError):
            continue
    return "text", np.empty(0)


def _truths(cells: Sequence[str]) -> Values:
    try:
        return np.array([_TRUTH[cell.lower()] for cell in cells], dtype=np.int8)
    except KeyError as error:
        raise ValueError(str(error)) from None


def _wholes(cells: Sequence[str]) -> Values:
    _refuse_codes(cells)
    return np.array(list(map(int, cells)), dtype=np.int64)


def _numbers(cells: Sequence[str]) -> Values:
    _refuse_codes(cells)
    return np.array(list(map(float, cells)), dtype=np.float64)


def _dates(cells: Sequence[str]) -> Values:
    return np.array([seconds_of(cell) for cell in cells], dtype=np.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _refuse_codes(cells: Sequence[str]) -> None:
    if _NO_NUMBER.search("\n".join(cells)):
        raise ValueError("no number")


def seconds_of(cell: str) -> float:
    """Return the seconds since 1970 of a date such as ``2024-05-31`` or ``2024-05-31 12:00:00+02:00``; UTC without a zone.

    Raises:
        ValueError: It is no such date.
    """
    if not _DATE.fullmatch(cell):
        raise ValueError(cell)
    moment = datetime.fromisoformat(cell)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


Parser = Callable[[Sequence[str]], Values]
_KINDS: tuple[tuple[str, Parser], ...] = (("truth", _truths), ("whole", _wholes), ("number", _numbers), ("date", _dates))
_WIDER: dict[str | None, tuple[tuple[str, Parser], ...]] = {
    None: _KINDS,
    "truth": _KINDS[:1],
    "whole": _KINDS[1:3],
    "number": _KINDS[2:3],
    "date": _KINDS[3:],
}
"""What a column of a kind can still become as more cells come in; beside that, text."""
