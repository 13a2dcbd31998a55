"""From the cells of sheets to one table: where its header is, and which rows and columns belong to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchflow import arguments
from torchflow.data.readers.columns import Column
from torchflow.data.readers.objects import column_of_objects, text_of_object
from torchflow.data.readers.workbook_cells import column_number
from torchflow.errors import ArgumentTypeError, ArgumentValueError, TableError

_RANGE = re.compile(r"\$?([A-Za-z]{1,3})\$?(\d{0,7}):\$?([A-Za-z]{1,3})\$?(\d{0,7})")


@dataclass(frozen=True, slots=True)
class Sheet:
    """The cells of a sheet.

    Attributes:
        name: Its name.
        first_column: The column of the first cell of each row, from 0.
        rows: From the sheet's first row on; None for empty cells.
    """

    name: str
    first_column: int
    rows: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Area:
    """The part of a sheet that is read; rows and columns as the program numbers them, from 1, the last included.

    Attributes:
        left: The first column.
        right: The last column.
        top: The first row.
        bottom: The last row.
        header: The row with the names; None is the first that is not empty.
    """

    left: int = 1
    right: int = 2**31
    top: int = 1
    bottom: int = 2**31
    header: int | None = None


def checked_area(cells: object, header: object) -> Area:
    """Return the area that the arguments of :func:`torchflow.data.from_excel` name.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: It is no range, or the header is outside.
    """
    row = arguments.whole_or_none("header", header, hint="It is the number that the program shows beside the row.")
    if cells is None:
        return Area(top=row or 1, header=row)
    if not isinstance(cells, str):
        raise ArgumentTypeError(f"cells must be a range such as 'B3:F200' or None, got {arguments.shown(cells)}.")
    found = _RANGE.fullmatch(cells.strip())
    if found is None:
        raise ArgumentValueError(f"cells must be a range such as 'B3:F200' or 'B:F', got {cells!r}.")
    left, right = column_number(found[1]), column_number(found[3])
    top, bottom = int(found[2] or 1), int(found[4] or 2**31)
    if left > right or top > bottom or not top:
        raise ArgumentValueError(f"cells must name the upper left and the lower right cell, such as 'B3:F200', got {cells!r}.")
    if row is not None and not top <= row <= bottom:
        raise ArgumentValueError(f"header={row} is outside of cells={cells!r}. Name a row of that range, or leave header out.")
    return Area(left, right, max(top, row or top), bottom, row)


@dataclass(frozen=True, slots=True)
class SheetTable:
    """The table of one sheet or several.

    Attributes:
        place: What messages call it.
        names: The columns.
        rows: The cells below the header, in the order of the names.
        numbers: The number of each row in its sheet.
    """

    place: str
    names: tuple[str, ...]
    rows: list[list[Any]]
    numbers: list[int]

    def columns(self, names: Sequence[str]) -> tuple[dict[str, Column], list[str]]:
        """Return some columns, and the names of those that hold dates.

        Raises:
            TableError: There are no rows.
        """
        if not self.rows:
            raise TableError(f"{self.place} has a header and no rows. It needs at least one, or header= names another row.")
        made: dict[str, Column] = {}
        moments = []
        for name in names:
            at = self.names.index(name)
            made[name], dates = column_of_objects([row[at] for row in self.rows], lambda row: f"row {row} of {self.place}")
            moments += [name] * dates
        return made, moments


def table_of(file: Path, sheets: Sequence[Sheet], area: Area, sheet_column: str | None) -> SheetTable:
    """Return the table that sheets with equal headers make, one below the other.

    Raises:
        TableError: A sheet has no header, columns without a name, or another header than the first.
    """
    tables = [_one_table(file, sheet, area) for sheet in sheets]
    first = tables[0]
    rows, numbers = [], []
    for sheet, table in zip(sheets, tables, strict=True):
        if sorted(table.names) != sorted(first.names):
            odd = sorted(set(table.names) ^ set(first.names))[:5]
            said = f"{table.place} and sheet {sheets[0].name!r} have different columns: {', '.join(map(repr, odd))}"
            raise TableError(f"{said}. Read them one by one, or make their headers equal.")
        places = [table.names.index(name) for name in first.names]
        added = [] if sheet_column is None else [sheet.name]
        rows += [[*(row[place] for place in places), *added] for row in table.rows]
        numbers += table.numbers
    names = first.names if sheet_column is None else (*first.names, sheet_column)
    place = first.place if len(sheets) == 1 else f"{file}, sheets {', '.join(repr(sheet.name) for sheet in sheets[:5])}"
    return SheetTable(place, names, rows, numbers)


def _one_table(file: Path, sheet: Sheet, area: Area) -> SheetTable:
    """Return the table of one sheet."""
    place = f"{file}, sheet {sheet.name!r}"
    part = slice(max(0, area.left - 1 - sheet.first_column), max(0, area.right - sheet.first_column))
    numbered = [(number, row[part]) for number, row in enumerate(sheet.rows[area.top - 1 : area.bottom], start=area.top)]
    filled = [(number, row) for number, row in numbered if any(cell is not None for cell in row)]
    if not filled:
        raise TableError(
            f"{place} is empty{' there' if area != Area() else ''}. It needs a header row with the names of its columns."
        )
    number, header = filled[0]
    if area.header is not None and number != area.header:
        raise TableError(f"{place}, row {area.header} is empty. Pass the header= that holds the names of the columns.")
    width = max(len(row) for _, row in filled)
    names = [None if cell is None else text_of_object(cell) for cell in [*header, *[None] * (width - len(header))]]
    used = [at for at in range(width) if names[at] is not None or any(len(row) > at and row[at] is not None for _, row in filled)]
    for at in used:
        if names[at] is None:
            letters = column_letters(at + 1 + max(sheet.first_column, area.left - 1))
            remedy = f"Name it, or leave it out with cells=; if the names are not in row {number}, pass header=."
            raise TableError(f"{place}, column {letters} has cells and no name in row {number}. {remedy}")
    below = [[row[at] if at < len(row) else None for at in used] for _, row in filled[1:]]
    return SheetTable(place, tuple(str(names[at]) for at in used), below, [number for number, _ in filled[1:]])


def column_letters(number: int) -> str:
    """Return the letters of a column from its number: 1 is A, 16384 is XFD."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
