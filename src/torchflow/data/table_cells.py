"""The cells of one column in a batch, as what an encoder takes them for."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.readers.cells import seconds_of
from torchflow.data.readers.columns import shown_cell
from torchflow.errors import DataError

DAY = 86_400.0
TRUTHS = {"true": 1.0, "false": 0.0}
CYCLES = ("year", "month", "week", "day")
_WORD = re.compile(r"\w+")


def words_of(text: str) -> Counter[str]:
    """Return how often each word stands in a text: runs of letters, digits and underscores, in small letters."""
    return Counter(_WORD.findall(text.lower()))


def numbers_of(cells: Any, column: str) -> Tensor:
    """Return float64 (batch,), NaN for gaps, of numbers or of texts that are numbers, such as ``"007"``.

    Raises:
        DataError: A text is no number, or a number is infinite.
    """
    if isinstance(cells, list):
        cells = torch.tensor([_number_of(cell, column) for cell in cells], dtype=torch.float64)
    if not isinstance(cells, Tensor) or cells.ndim != 1 or cells.is_complex():
        raise DataError(f"column {column!r} is taken for numbers and holds {arguments.shown(type(cells))}. Leave it out.")
    values = cells.type(torch.float64)
    if bool(values.isinf().any()):
        row = int(values.isinf().nonzero()[0])
        raise DataError(f"column {column!r} is infinite in row {row} of the batch. Leave out that row or column.")
    return values


def _number_of(cell: Any, column: str) -> float:
    try:
        return float(TRUTHS.get(str(cell).lower(), cell)) if cell else math.nan
    except (TypeError, ValueError):
        remedy = "Correct that cell, or name the column in categorical= or text=."
        raise DataError(f"column {column!r} is taken for numbers and holds {str(cell)[:40]!r}. {remedy}") from None


def moments_of(cells: Any, column: str) -> Tensor:
    """Return seconds since 1970 as float64 (batch,), of numbers or of texts such as "2024-05-31"; NaN for gaps.

    Raises:
        DataError: A text is no date.
    """
    if isinstance(cells, Tensor):
        return numbers_of(cells, column)
    try:
        return torch.tensor([seconds_of(cell) if cell else math.nan for cell in cells], dtype=torch.float64)
    except ValueError as error:
        raise DataError(f"column {column!r} is taken for dates and holds {error}. Write dates as 2024-05-31.") from None


def texts_of(cells: Any, column: str) -> list[str]:
    """Return the cells as texts, "" for gaps; whole numbers have no decimals.

    Raises:
        DataError: They are neither texts nor numbers.
    """
    if isinstance(cells, list) and all(isinstance(cell, str) for cell in cells):
        return cells
    if isinstance(cells, Tensor) and cells.ndim == 1 and not cells.is_complex():
        return [shown_cell(cell) for cell in cells.tolist()]
    raise DataError(f"column {column!r} is taken for categories and holds {arguments.shown(type(cells))}. Leave it out.")


def place_in(cycle: str, seconds: Tensor) -> Tensor:
    """Return how much of a cycle has passed, from 0 to 1: of the year, the month, the week (from Monday) or the day, in UTC."""
    if cycle == "day":
        return (seconds / DAY) % 1.0
    if cycle == "week":
        return ((seconds / DAY + 3) / 7) % 1.0  # the first of January 1970 was a Thursday
    unit = "Y" if cycle == "year" else "M"
    whole = seconds.floor().numpy().astype(np.int64).astype("datetime64[s]").astype(f"datetime64[{unit}]")
    begin, end = (moment.astype("datetime64[s]").astype(np.float64) for moment in (whole, whole + 1))
    return (seconds - torch.from_numpy(begin)) / torch.from_numpy(end - begin)
