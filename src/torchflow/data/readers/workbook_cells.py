"""The cells of a workbook: what a bounded child process runs, with nothing of torchflow in it.

A cell is a number, a truth value, a text, None for an empty one, or a pair: ``["d", "2024-05-31T00:00:00"]`` a date,
``["t", 3600.0]`` a time in seconds of the day, ``["s", 90.0]`` a duration in seconds.
"""

from __future__ import annotations

import xml.parsers.expat
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import IO, Any

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENTRIES = 10_000
_CELLS_AT_ONCE = 2**14
_EXACT = 2**53
_READ = 2**16


def cells(path: str, sheets: Sequence[str | int] | None, max_bytes: int, max_cells: int, looking: bool) -> Iterator[Any]:
    """Yield for each sheet ``{"sheet", "first_row", "first_column"}`` and then blocks of its rows.

    Args:
        path: The workbook.
        sheets: Names, or positions from 0; None is all.
        max_bytes: What it may take unpacked.
        max_cells: The largest rectangle from the first to the last cell of a sheet.
        looking: Whether the sheets are scanned before they are read, which is needed where memory has no limit.

    Raises:
        ValueError: It is no such workbook; the message says why.
    """
    check(path, max_bytes)
    if looking:
        refuse_far_cells(path, max_cells)
    import python_calamine  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415  (the child may not have it)

    with open(path, "rb") as file:
        try:
            book = python_calamine.load_workbook(file)
            names = [meta.name for meta in book.sheets_metadata if meta.typ == python_calamine.SheetTypeEnum.WorkSheet]
        except Exception as error:
            raise ValueError(f"{str(error)[:300]}. It is damaged, or protected by a password: save it anew.") from error
        for name in _chosen(sheets, names):
            try:
                sheet = book.get_sheet_by_name(name)
            except Exception as error:
                raise ValueError(f"sheet {name!r}: {str(error)[:300]}. It is damaged: save it anew.") from error
            yield from _rows(sheet, name, max_cells)


def _rows(sheet: Any, name: str, max_cells: int) -> Iterator[Any]:
    width = sheet.width if sheet.start else 0
    height = sheet.end[0] + 1 if sheet.start else 0
    if height * width > max_cells:
        said = f"sheet {name!r} has {height:,} rows and {width:,} columns"
        raise ValueError(f"{said}, and at most {max_cells:,} cells are read. Pass max_cells= if that is right.")
    yield {"sheet": name, "first_row": 1, "first_column": sheet.start[1] if sheet.start else 0}
    block = []
    for row in sheet.iter_rows():
        block.append([_plain(cell) for cell in row])
        if len(block) * max(1, width) >= _CELLS_AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _chosen(sheets: Sequence[str | int] | None, names: Sequence[str]) -> list[str]:
    """Return the names of the sheets that are wanted."""
    if not names:
        raise ValueError("it has no sheet with cells.")
    made = []
    listed = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
    for sheet in names if sheets is None else sheets:
        if isinstance(sheet, int):
            if not -len(names) <= sheet < len(names):
                raise ValueError(f"there is no sheet {sheet}: it has {len(names)}, counted from 0: {listed}.")
            made.append(names[sheet])
        elif sheet in names:
            made.append(sheet)
        else:
            raise ValueError(f"there is no sheet {sheet!r}. Its sheets are {listed}.")
    return made


def _plain(cell: Any) -> Any:
    """Return what JSON can say of a cell."""
    if isinstance(cell, float):  # every number of a workbook is one
        return int(cell) if cell.is_integer() and abs(cell) <= _EXACT else cell
    if isinstance(cell, str):
        return cell.strip() or None
    if isinstance(cell, datetime):
        return ["d", cell.isoformat()]
    if isinstance(cell, date):
        return ["d", f"{cell.isoformat()}T00:00:00"]
    if isinstance(cell, time):
        return ["t", cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6]
    return ["s", cell.total_seconds()] if isinstance(cell, timedelta) else cell


def check(path: str, max_bytes: int) -> None:
    """Check by its first bytes that a file is a workbook, and what a zip archive says of its size.

    Raises:
        ValueError: It is none, or larger than ``max_bytes``.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(0, 2)
        size = file.tell()
        if not start:
            raise ValueError("it is empty.")
        if not start.startswith((_ZIP, _OLE)):
            raise ValueError(f"it is no workbook: it begins with {start!r}. A CSV file is read by from_csv.")
        if size > max_bytes:
            raise ValueError(f"it has {size:,} bytes, and at most {max_bytes:,} are read. Pass max_bytes= if that is right.")
        if start.startswith(_OLE):
            return
        try:
            entries = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ValueError(f"it is a damaged archive: {error}. Save it anew.") from error
    names = [entry.filename.lower() for entry in entries]
    if "content.xml" not in names and not any(name.endswith(("workbook.xml", "workbook.bin")) for name in names):
        raise ValueError("it is an archive, and no workbook is in it. Unpack it, or save the workbook anew.")
    if len(entries) > _ENTRIES:
        raise ValueError(f"its archive has {len(entries):,} files, and a workbook has few. It may be made to do harm.")
    declared = sum(entry.file_size for entry in entries)
    if declared > max_bytes:
        raise ValueError(
            f"it takes {declared:,} bytes unpacked, and at most {max_bytes:,} are read. Pass max_bytes= if that is right."
        )


def far_cells(path: str, max_cells: int) -> Iterator[Any]:
    """Yield nothing, after :func:`refuse_far_cells`: what a child is asked for after another died of want of memory."""
    refuse_far_cells(path, max_cells)
    yield from ()


def refuse_far_cells(path: str, max_cells: int) -> None:
    """Scan the sheets of an .xlsx file, and refuse cells so far away that the rectangle up to them is too large.

    A library that makes room for the whole rectangle dies of one cell at XFD1048576, which a file of 5 KB can hold.

    Raises:
        ValueError: There is such a cell, or the XML is none.
    """
    with open(path, "rb") as file:
        if not file.read(4).startswith(_ZIP):
            return
        file.seek(0)
        archive = zipfile.ZipFile(file)
        for entry in archive.infolist():
            if entry.filename.startswith("xl/worksheets/") and entry.filename.endswith(".xml"):
                with archive.open(entry) as sheet:
                    _scan(sheet, entry.filename, max_cells)


def _scan(sheet: IO[bytes], name: str, max_cells: int) -> None:
    """Read the places of all cells of a sheet's XML; where a place is left out, a cell follows the one before."""
    row = column = rows = columns = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal row, column, rows, columns
        tag = tag.rpartition(":")[2]
        if tag == "row":
            row, column = _number(attributes.get("r", ""), row + 1), 0
        elif tag == "c":
            place = attributes.get("r", "")
            letters = place.rstrip("0123456789")
            column = column_number(letters) if letters else column + 1
            row = _number(place[len(letters) :], row)
            rows, columns = max(rows, row), max(columns, column)
            if rows * columns > max_cells:
                said = f"{name} has cells as far as {place or (row, column)}"
                raise ValueError(f"{said}: more than {max_cells:,} with the empty ones. Delete those far away, or pass max_cells=.")

    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        while chunk := sheet.read(_READ):
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except (xml.parsers.expat.ExpatError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{name} is damaged: {error}. Save it anew.") from error


def _number(digits: str, otherwise: int) -> int:
    """Return the number of a row, or the one that follows where none is said."""
    if digits and not digits.isdecimal():
        raise ValueError(f"a cell is at {digits[:20]!r}, which is no row. It is damaged: save it anew.")
    return int(digits) if digits else otherwise


def _refuse_doctype(*declaration: object) -> None:
    raise ValueError("it declares a document type, which no workbook does. It may be made to do harm.")


def column_number(letters: str) -> int:
    """Return the number of a column from its letters: A is 1, XFD is 16384."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number
