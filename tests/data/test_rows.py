"""Tables of cells: what kind a column is follows from all of its cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torchflow import data
from torchflow.data.readers import tables
from torchflow.data.readers.cells import Growing
from torchflow.data.readers.columns import MOMENT, Text
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError, TableError


def written(folder: Path, text: str) -> Path:
    file = folder / "table.csv"
    file.write_text(text, encoding="utf-8")
    return file


def listed(column: Any) -> list[Any]:
    """The cells of a column, gaps as None."""
    if isinstance(column, Text):
        column = column.take(torch.arange(len(column)))
    cells = column.tolist() if isinstance(column, Tensor) else column
    return [None if cell == "" or (isinstance(cell, float) and math.isnan(cell)) else cell for cell in cells]


def test_a_table_without_a_target_has_rows(tmp_path: Path) -> None:
    text = "id,size,big,flag,born,name\n1,0.5,NA,true,2024-02-29,ann\n2,?,7,False,1969-12-31 12:00:00+02:00, bob \n\n3,-1e3,8,true,,NA\n"
    dataset = data.from_csv(written(tmp_path, text))
    batch = dataset.take_batch([0, 1, 2])
    assert list(batch) == ["id", "size", "big", "flag", "born", "name"]
    assert batch["id"].tolist() == [1, 2, 3]
    assert listed(batch["size"]) == [0.5, None, -1000.0]
    assert listed(batch["big"]) == [None, 7.0, 8.0]
    assert batch["flag"].tolist() == [True, False, True]
    assert listed(batch["born"]) == [datetime(2024, 2, 29, tzinfo=UTC).timestamp(), -14 * 3600.0, None]
    assert batch["name"] == ["ann", "bob", ""]
    assert dataset.schema is not None
    assert [field.dtype for field in dataset.schema.fields] == [torch.int64, *[torch.float64] * 2, torch.bool, torch.float64, None]
    assert dataset.schema["born"].unit == MOMENT
    row = dataset[1]
    assert row["name"] == "bob"
    assert isinstance(row["id"], Tensor)
    assert row["id"].shape == ()
    assert row["id"] == 2


def test_rows_go_through_the_whole_algebra(tmp_path: Path) -> None:
    dataset = data.from_csv(written(tmp_path, "a,t\n1,x\n2,y\n3,z\n"))
    both = dataset.concat(dataset.skip(1)).select([4, 0, 1])
    assert both.take_batch([0, 1, 2])["t"] == ["z", "x", "y"]
    assert both.take_batch([0, 1, 2])["a"].tolist() == [3, 1, 2]
    assert [row["t"] for row in both] == ["z", "x", "y"]
    assert [row["t"] for row in dataset.filter(lambda row: row["t"] != "y").cache()] == ["x", "z"]
    assert dataset.map(lambda row: row["t"] + "!").take_samples([2]) == ["z!"]
    assert sorted(row["t"] for part in dataset.split(1, 2) for row in part) == ["x", "y", "z"]
    first, second = dataset.zip(dataset.repeat(1))[1]
    assert first["t"] == second["t"] == "y"


def test_columns_are_chosen_and_gaps_are_said(tmp_path: Path) -> None:
    file = written(tmp_path, "land,n\nNA,1\nDE,-9\n")
    assert data.from_csv(file).take_batch([0, 1])["land"] == ["", "DE"]
    chosen = data.from_csv(file, features=["n", "land"], gaps=["", "-9"]).take_batch([0, 1])
    assert list(chosen) == ["n", "land"]
    assert chosen["land"] == ["NA", "DE"]
    assert listed(chosen["n"]) == [1.0, None]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"features": ["x"]}, TableError, r"no column 'x'. Its columns are 'a', 'b'"),
        ({"features": []}, ArgumentValueError, "features must name at least one column"),
        ({"gaps": "na"}, ArgumentTypeError, "gaps must be a list of texts"),
        ({"gaps": [1]}, ArgumentTypeError, "gaps must be a list of texts"),
        ({"max_bytes": 3}, FileError, r"has 8 bytes, and at most 3 are read. Pass max_bytes="),
        ({"max_columns": 1}, TableError, r"has 2 columns, and at most 1 are read. Pass max_columns="),
        ({"max_bytes": 1.5}, ArgumentTypeError, "max_bytes must be an int"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.from_csv(written(tmp_path, "a,b\n1,2\n"), **options)


def truth(cell: str) -> bool:
    if cell.lower() not in ("true", "false"):
        raise ValueError(cell)
    return cell.lower() == "true"


def code(cell: str) -> bool:
    digits = cell.lstrip("+-")
    return digits[:1] == "0" and digits[1:2].isdecimal()


def whole(cell: str) -> int:
    if "_" in cell or code(cell) or not -(2**63) <= int(cell) < 2**63:
        raise ValueError(cell)
    return int(cell)


def number(cell: str) -> float:
    if "_" in cell or code(cell):
        raise ValueError(cell)
    return float(cell)


def moment(cell: str) -> float:
    if len(cell) != 10 or cell[4] != "-":
        raise ValueError(cell)
    return datetime.fromisoformat(cell).replace(tzinfo=UTC).timestamp()


def reference(cells: Sequence[str], gaps: set[str]) -> list[Any]:
    """What a column of cells holds, by looking at all of it at once."""
    there = [cell for cell in cells if cell.lower() not in gaps]
    parsers: list[Callable[[str], Any]] = [truth, whole, number, moment, str]
    for parse in parsers:
        try:
            values = [parse(cell) for cell in there]
        except ValueError:
            continue
        if parse is whole and len(there) < len(cells) and any(abs(value) > 2**53 for value in values):
            values = list(there)
        remaining = iter(values)
        return [None if cell.lower() in gaps else next(remaining) for cell in cells]
    raise AssertionError("str takes everything")


CELLS = st.one_of(
    st.sampled_from(
        ["", "NA", "true", "False", "0", "1", "-7", "2.5", "1e3", "x", "1_000", "007", "-01", "0.5", "2024-05-31", "1969-01-01"]
    ),
    st.integers(-(2**64), 2**64).map(str),
    st.dates(date(1900, 1, 1), date(2100, 1, 1)).map(str),
    st.text(alphabet="ab1.-", max_size=3),
)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=6), st.sampled_from(range(5)))
def test_a_column_is_the_same_however_it_comes_in(chunks: list[list[str]], kind: int) -> None:
    gaps = {"", "na"}
    narrow = [CELLS, ["", "5", "-3"], ["", "true"], ["na", "2024-05-31"], ["", "9007199254740993", "1"]][kind]
    if isinstance(narrow, list):  # columns of one kind are seldom among free ones
        chunks = [[narrow[len(cell) % len(narrow)] for cell in chunk] for chunk in chunks]
    cells = [cell for chunk in chunks for cell in chunk]
    column = Growing(frozenset(gaps))
    for chunk in chunks:
        column.extend(chunk)
    column.finish()
    if column.incomplete:
        column = Growing(frozenset(gaps), text=True)
        column.extend(cells)
    assert listed(column.column()[0]) == reference(cells, gaps)


def test_codes_keep_their_zeros(tmp_path: Path) -> None:
    dataset = data.from_csv(written(tmp_path, "zip,n\n01234,0\n99999,0.5\n"))
    assert dataset.take_batch([0, 1])["zip"] == ["01234", "99999"]
    assert dataset.take_batch([0, 1])["n"].tolist() == [0, 0.5]
    encoding = data.TableEncoder(numeric=["zip"], standardize=False).fit(dataset)
    assert encoding(dataset.take_batch([0, 1])).tolist() == [[1234.0], [99999.0]]


def test_texts_that_come_late_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_CELLS_AT_ONCE", 2)
    rows = "".join(f"{i:03},{i}\n" for i in range(9))
    batch = data.from_csv(written(tmp_path, f"a,b\n{rows}x1,9\n")).take_batch(range(10))
    assert batch["a"] == [*(f"{i:03}" for i in range(9)), "x1"]
    assert batch["b"].tolist() == list(range(10))
