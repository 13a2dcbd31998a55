"""Columns out of Python objects: cells of workbooks, and columns of frames that hold objects."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import torch

from torchflow import arguments
from torchflow.data.readers.columns import EXACT, Column, Text, shown_cell
from torchflow.errors import TableError


def column_of_objects(cells: Sequence[Any], place: Callable[[int], str]) -> tuple[Column, bool]:
    """Return the column of some cells, and whether it holds dates.

    Cells are numbers, truth values, texts, dates, times, durations or gaps (None, NaN, pandas' NA and NaT). Where they are of
    several kinds, all become texts.

    Args:
        cells: The cells.
        place: From a row to what a message calls its cell.

    Raises:
        TableError: A cell is something else.
    """
    kinds = _kinds(cells)
    if "other" in kinds:
        row = next(row for row, cell in enumerate(cells) if _kind(cell) == "other")
        remedy = "Turn it into numbers or texts first, or leave out the column (features=[...])."
        raise TableError(f"{place(row)} is no number, date or text: {arguments.shown(cells[row])}. {remedy}")
    gaps = "gap" in kinds
    kinds.discard("gap")
    if not kinds or kinds <= {"truth", "whole", "number"}:
        return _numbers(cells, kinds, gaps), False
    if len(kinds) == 1 and kinds != {"text"}:
        seconds = [float("nan") if _kind(cell) == "gap" else seconds_of_object(cell) for cell in cells]
        return torch.tensor(seconds, dtype=torch.float64), kinds == {"moment"}
    return Text.of([text_of_object(cell) for cell in cells]), False


def _kinds(cells: Sequence[Any]) -> set[str]:
    """Return the kinds of all cells; of the common types one cell, or the extremes, say it for all."""
    found = set()
    for cell_type in set(map(type, cells)):
        own = [cell for cell in cells if type(cell) is cell_type]
        if cell_type is float:
            gaps = sum(map(math.isnan, own))
            found.update(["gap"] * (gaps > 0) + ["number"] * (gaps < len(own)))
        elif cell_type is int:
            found.update((_kind(min(own)), _kind(max(own))))
        elif cell_type in (str, bool, type(None), date, datetime, time, timedelta):
            found.add(_kind(own[0]))
        else:
            found.update(map(_kind, own))
    return found


def _kind(cell: object) -> str:
    if not isinstance(cell, str) and is_object_gap(cell):
        return "gap"
    if isinstance(cell, numbers.Integral) and not isinstance(cell, bool) and not -(2**63) <= int(cell) < 2**63:
        return "number"
    kind = next((kind for types, kind in _KINDS if isinstance(cell, types)), "other")
    return "number" if kind == "other" and type(cell).__name__ == "Decimal" else kind


# In this order: a bool is an int, and a datetime, as a Timestamp of pandas, is a date.
_KINDS: tuple[tuple[Any, str], ...] = (
    (str, "text"),
    ((bool, np.bool_), "truth"),
    (numbers.Integral, "whole"),
    (numbers.Real, "number"),
    (date, "moment"),
    (timedelta, "duration"),
    (time, "time"),
)


def is_object_gap(cell: object) -> bool:
    """Return whether a cell is None, NaN, or a gap of pandas."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or type(cell).__name__ in ("NAType", "NaTType")


def seconds_of_object(cell: date | time | timedelta) -> float:
    """Return the seconds since 1970 of a date, of the day of a time, or of a duration; UTC where there is no zone."""
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    if isinstance(cell, time):
        return cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6
    moment = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def text_of_object(cell: Any) -> str:
    """Return what stands in a column of texts for a cell; gaps are empty."""
    if isinstance(cell, str):
        return cell
    if is_object_gap(cell):
        return ""
    if isinstance(cell, (datetime, date, time)):
        return cell.isoformat()
    return shown_cell(cell) if isinstance(cell, (bool, float)) else str(cell)


def _numbers(cells: Sequence[Any], kinds: set[str], gaps: bool) -> Column:
    if kinds == {"truth"} and not gaps:
        return torch.tensor([bool(cell) for cell in cells])
    whole = kinds <= {"truth", "whole"} and bool(kinds)
    if whole and not gaps:
        return torch.tensor([int(cell) for cell in cells], dtype=torch.int64)
    if whole and any(not is_object_gap(cell) and abs(int(cell)) > EXACT for cell in cells):
        return Text.of([text_of_object(cell) for cell in cells])
    return torch.tensor([float("nan") if is_object_gap(cell) else float(cell) for cell in cells], dtype=torch.float64)
