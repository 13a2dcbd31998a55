"""Workbooks of three formats: which cells are read, what they become, and that nothing they hold brings the process down."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import torch
from torch import Tensor

from tests.data.workbooks import REAL_XLS, Cell, ods, sheet_of, xlsx, xlsx_parts, zipped
from torchflow import data
from torchflow.data.readers import workbook_cells
from torchflow.data.readers.sheets import column_letters
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError, MissingExtraError, TableError

ROWS: list[list[Cell]] = [["id", "size", "name"], [1.0, 2.5, "ann"], [2.0, None, None], [None, None, None], [3.0, -1.0, "bob"]]


def listed(batch: dict[str, Any]) -> dict[str, list[Any]]:
    made = {name: column.tolist() if isinstance(column, Tensor) else column for name, column in batch.items()}
    return {
        name: [None if cell == "" or (isinstance(cell, float) and math.isnan(cell)) else cell for cell in column]
        for name, column in made.items()
    }


def written(folder: Path, content: bytes, name: str = "book.xlsx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("name", "content"), [("book.xlsx", xlsx({"Sheet": ROWS})), ("book.ods", ods(ROWS)), ("book", ods(ROWS))])
def test_a_workbook_has_rows(tmp_path: Path, name: str, content: bytes) -> None:
    dataset = data.from_excel(written(tmp_path, content, name))
    assert listed(dataset.take_batch([0, 1, 2])) == {"id": [1, 2, 3], "size": [2.5, None, -1.0], "name": ["ann", None, "bob"]}
    assert dataset.schema is not None
    assert dataset.schema["id"].dtype == torch.int64
    assert dataset[2]["name"] == "bob"


def test_a_real_xls_file_of_monthly_indicators() -> None:
    dataset = data.from_excel(REAL_XLS)
    assert len(dataset) == 379
    assert dataset.schema is not None
    assert len(dataset.schema.fields) == 30
    assert dataset.schema["Date"].unit == "seconds since 1970"
    batch = dataset.take_batch(range(379))
    assert batch["Date"][0] == datetime(1985, 1, 1, tzinfo=UTC).timestamp()
    assert batch["PAYEMS"][:2].tolist() == [96373.0, 96497.0]
    assert sum(int(column.isnan().sum()) for column in batch.values()) == 2315
    assert len(data.from_excel(REAL_XLS, cells="A1:C11", header=1)) == 10
    x, y = data.from_excel(REAL_XLS, cells="B1:I100", features=["PAYEMS", "CPIAUCSL"], target="UNRATE")[0]
    assert (x.tolist(), y.tolist()) == ([96373.0, pytest.approx(105.7)], [pytest.approx(7.3)])


def test_dates_times_truths_formulas_and_errors(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append(["day", "moment", "time", "span", "flag", "formula", "error", "mixed"])
    sheet.append([date(2024, 2, 29), datetime(2024, 2, 29, 6, 30), time(1, 2, 3), timedelta(hours=30), True, "=1+1", "#N/A", 7])
    sheet.append([date(1999, 1, 1), None, time(0), timedelta(0), False, "=A1", 5, "seven"])
    sheet["G2"].data_type = "e"
    book.save(tmp_path / "book.xlsx")
    dataset = data.from_excel(tmp_path / "book.xlsx")
    assert listed(dataset.take_batch([0, 1])) == {
        "day": [datetime(2024, 2, 29, tzinfo=UTC).timestamp(), datetime(1999, 1, 1, tzinfo=UTC).timestamp()],
        "moment": [datetime(2024, 2, 29, 6, 30, tzinfo=UTC).timestamp(), None],
        "time": [3723.0, 0.0],
        "span": [108_000.0, 0.0],
        "flag": [True, False],
        "formula": [None, None],  # nothing computed them
        "error": [None, 5.0],
        "mixed": ["7", "seven"],
    }
    assert dataset.schema is not None
    assert [field.name for field in dataset.schema.fields if field.unit] == ["day", "moment"]


def test_whole_numbers_that_a_workbook_cannot_hold_stay_floats(tmp_path: Path) -> None:
    batch = data.from_excel(written(tmp_path, xlsx({"S": [["a", "b"], [2.0**53, 2.0**54], [1.0, 1.0]]}))).take_batch([0, 1])
    assert batch["a"].dtype == torch.int64
    assert batch["b"].dtype == torch.float64


NOTES: list[list[Cell]] = [["a note"], [], ["", "x", "y"], ["", 1.0, 2.0], ["", 3.0, 4.0], ["", "sum", 6.0]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cells": "B3:C5"}, {"x": [1, 3], "y": [2, 4]}),
        ({"cells": "$b$3:$c$5", "header": 3}, {"x": [1, 3], "y": [2, 4]}),
        ({"cells": "C:C", "header": 3}, {"y": [2, 4, 6]}),
        ({"header": 3}, {"x": ["1", "3", "sum"], "y": [2, 4, 6]}),
        ({"header": 4}, {"1": ["3", "sum"], "2": [4, 6]}),
        ({"cells": "B3:Z99"}, {"x": ["1", "3", "sum"], "y": [2, 4, 6]}),
        ({"cells": "B3:C5", "features": ["y"]}, {"y": [2, 4]}),
    ],
)
def test_a_part_of_a_sheet_is_read(tmp_path: Path, options: dict[str, Any], expected: dict[str, list[Any]]) -> None:
    for name, content in (("a.xlsx", xlsx({"S": NOTES})), ("a.ods", ods(NOTES))):
        dataset = data.from_excel(written(tmp_path, content, name), **options)
        assert listed(dataset.take_batch(range(len(dataset)))) == expected


def test_cells_may_begin_anywhere(tmp_path: Path) -> None:
    rows = '<row r="7"><c r="D7" t="inlineStr"><is><t>x</t></is></c></row><row r="9"><c r="D9"><v>5</v></c></row>'
    path = written(tmp_path, zipped(xlsx_parts({"S": sheet_of(rows)})))
    for options in ({}, {"header": 7}, {"cells": "D7:D9"}, {"cells": "A:Z"}):
        assert listed(data.from_excel(path, **options).take_batch([0])) == {"x": [5]}


def test_gaps_are_named_with_the_row_that_the_program_shows(tmp_path: Path) -> None:
    path = written(tmp_path, xlsx({"S": [[], ["x", "y"], [1.0, 2.0], [], [None, 3.0]]}))
    with pytest.raises(TableError, match=r"column 'x' of .*book.xlsx, sheet 'S', row 5, is a gap"):
        data.from_excel(path, target="y")


def test_several_sheets_become_one_table(tmp_path: Path) -> None:
    other: list[list[Cell]] = [["size", "id", "name"], [9.0, 4.0, "eve"]]
    path = written(tmp_path, xlsx({"May": ROWS, "June": other, "Notes": [["free text"]]}))
    both = data.from_excel(path, sheet=["May", 1], sheet_column="month")
    assert listed(both.take_batch([0, 1, 2, 3])) == {
        "id": [1, 2, 3, 4],
        "size": [2.5, None, -1.0, 9.0],
        "name": ["ann", None, "bob", "eve"],
        "month": ["May", "May", "May", "June"],
    }
    assert len(data.from_excel(path, sheet="June")) == 1
    assert len(data.from_excel(path, sheet=-2)) == 1
    with pytest.raises(
        TableError, match=r"sheet 'Notes' has a header and no rows|different columns: 'free text', 'id', 'name', 'size'"
    ):
        data.from_excel(path, sheet=None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sheet": "Mai"}, FileError, r"there is no sheet 'Mai'. Its sheets are 'S'"),
        ({"sheet": 2}, FileError, r"there is no sheet 2: it has 1, counted from 0"),
        ({"sheet": []}, ArgumentValueError, "sheet names no sheet"),
        ({"sheet": True}, ArgumentTypeError, "sheet must be a name, a position from 0"),
        ({"sheet": 1.5}, ArgumentTypeError, "sheet must be a name, a position from 0"),
        ({"cells": "B3"}, ArgumentValueError, "cells must be a range such as 'B3:F200' or 'B:F', got 'B3'"),
        ({"cells": "C5:B3"}, ArgumentValueError, "upper left and the lower right"),
        ({"cells": 5}, ArgumentTypeError, "cells must be a range"),
        ({"cells": "A1:B9", "header": 10}, ArgumentValueError, "header=10 is outside of cells='A1:B9'"),
        ({"cells": "X1:Z9"}, TableError, "sheet 'S' is empty there"),
        ({"header": 0}, ArgumentValueError, "header must be an int of at least 1.*beside the row"),
        ({"header": 4}, TableError, "row 4 is empty"),
        ({"sheet_column": 3}, ArgumentTypeError, "sheet_column must be"),
        ({"sheet_column": "id"}, TableError, "the column 'id' 2 times"),
        ({"features": ["ids"]}, TableError, r"no column 'ids'.*Did you mean 'id'\?"),
        ({"max_cells": 5}, FileError, "5 rows and 3 columns, and at most 5 cells are read. Pass max_cells="),
        ({"max_bytes": 5}, FileError, "at most 5 are read. Pass max_bytes="),
        ({"max_seconds": 0}, ArgumentValueError, "max_seconds must be a finite number above 0"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.from_excel(written(tmp_path, xlsx({"S": ROWS})), **options)


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    path = written(tmp_path, xlsx({"S": ROWS}))
    with pytest.raises(FileError, match=r"took longer than 0.001 seconds. Pass max_seconds="):
        data.from_excel(path, max_seconds=0.001)


def test_without_calamine_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, xlsx({"S": ROWS}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs python-calamine.*pip install 'torchflow-train\[excel\]'"):
        data.from_excel(path)


def test_the_child_imports_neither_torch_nor_torchflow() -> None:
    program = (
        f"import runpy, sys\nspace = runpy.run_path({workbook_cells.__file__!r})\n"
        f"parts = list(space['cells']({str(REAL_XLS)!r}, None, 2**29, 10**7, True))\n"
        "print(sum(len(part) for part in parts if isinstance(part, list)))\n"
        "print(*[name for name in ('torch', 'torchflow') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["380"]


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (
            sheet_of('<row r="1"><c r="XFD1"/></row><row r="1048576"/><row r="1048576"><c r="A1048576"/></row>'),
            "as far as A1048576",
        ),
        (sheet_of('<row r="1048576"><c r="&#88;FD1048576"/></row>'), "as far as XFD1048576"),
        (sheet_of("<row/>" * 2000 + "<row>" + "<c/>" * 2000 + "</row>"), "as far as"),
        (sheet_of("<row/>", "<!DOCTYPE x>"), "declares a document type"),
        ("<worksheet>", "is damaged"),
        (sheet_of('<row r="x"/>'), "which is no row"),
    ],
)
def test_where_memory_has_no_limit_sheets_are_scanned_first(tmp_path: Path, sheet: str, message: str) -> None:
    path = written(tmp_path, zipped(xlsx_parts({"S": sheet})))
    with pytest.raises(ValueError, match=message):
        list(workbook_cells.cells(str(path), [0], 2**29, 1_000_000, True))


def test_the_scan_lets_sound_workbooks_through(tmp_path: Path) -> None:
    path = written(tmp_path, xlsx({"S": ROWS}))
    named, rows = workbook_cells.cells(str(path), ["S"], 2**29, 1_000, True)
    assert named == {"sheet": "S", "first_row": 1, "first_column": 0}
    assert rows[1] == [1, 2.5, "ann"]


@pytest.mark.parametrize("number", [1, 26, 27, 702, 703, 16384])
def test_letters_of_columns_are_numbers_and_back(number: int) -> None:
    assert workbook_cells.column_number(column_letters(number)) == number
    assert column_letters(16384) == "XFD"
