from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from torchflow import data
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError, TableError


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "table.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize(
    "text",
    [
        "a,b,y\n1,2,3\n4,5,6\n",
        "\ufeffa,b,y\r\n1,2,3\r\n4,5,6",
        '"a","b","y"\n"1","2","3"\n\n4, 5 ,6e0\n,,\n',
        " a ,b,y\n+1,2.,3\n4,.5e1,6\n",
    ],
)
def test_tables_of_numbers_become_pairs(tmp_path: Path, text: str) -> None:
    dataset = data.from_csv(written(tmp_path, text), target="y")
    x, y = dataset.take_batch([0, 1])
    assert x.tolist() == [[1, 2], [4, 5]]
    assert y.tolist() == [[3], [6]]
    assert x.dtype == y.dtype == torch.float32
    assert dataset.schema == data.Schema.of_columns(("a", "b"), ("y",))
    assert dataset[0][0].shape == (2,)


def test_columns_are_chosen_by_name_and_others_may_hold_anything(tmp_path: Path) -> None:
    file = written(tmp_path, "id;a;b;y\nx;1;2;3\n\u00e9;4;;6\n")
    chosen = data.from_csv(str(file), target="y", features=["a"], delimiter=";", dtype=torch.float64)
    assert chosen.take_batch([1])[0].tolist() == [[4]]
    assert chosen[0][1].dtype == torch.float64


def test_several_targets_are_columns_of_y(tmp_path: Path) -> None:
    dataset = data.from_csv(written(tmp_path, "a,b,y\n1,2,3\n"), target=["y", "a"])
    assert dataset[0][0].tolist() == [2]
    assert dataset[0][1].tolist() == [3, 1]


def test_numbers_keep_their_last_digit(tmp_path: Path) -> None:
    dataset = data.from_csv(written(tmp_path, "a,y\n0.1,16777217\n"), target="y", dtype=torch.float64)
    assert dataset[0][0].tolist() == [0.1]
    assert dataset[0][1].tolist() == [16777217.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table.csv is empty. It needs a header line"),
        ("\n\n", "is empty"),
        ("a,y\n", "has a header and no rows"),
        ("a,b\n1,2\n", r"has no column 'y'. Its columns are 'a', 'b'\."),
        ("a,Y\n1,2\n", "has no column 'y'"),
        ("a;y\n1;2\n", r"The header holds ';': pass delimiter=';'"),
        ("a,a,y\n1,2,3\n", "has the column 'a' 2 times. Rename all but one"),
        ("a,y\n1,2\nred,3\n", r"line 3, column 'a' is text, not a number: 'red'. Turn it into a number"),
        ("a,y\n1_000,2\n", "line 2, column 'a' is text, not a number: '1_000'"),
        ('a,y\n"1,5",2\n', r"'1,5'. Write decimals with a point"),
        ("a,y\n1,2\n,3\n", r"line 3, column 'a' is a gap \(''\). Fill it in"),
        ("a,y\n1,NA\n", r"line 2, column 'y' is a gap \('NA'\)"),
        ("a,y\nnan,1\n", r"column 'a' is a gap \('nan'\)"),
        ("a,y\n-inf,1\n", "column 'a' is infinite"),
        ("a,y\n1e999,1\n", "column 'a' is text, not a number: '1e999'"),
        ("a,y\n1,2\n1,2,3\n", "line 3 has 3 cells, and the header has 2. Check the delimiter"),
        ("a,y\n1\n", "line 2 has 1 cells"),
        ("a,y\n1,2\0\n", "line 2 holds NUL bytes"),
        (b"a,y\n\xff\xfe,2\n", "is not text in UTF-8: invalid start byte"),
        ('a,y\n"1,2\n', "line 2: unexpected end of data. Check the quotes"),
        ("y\n1\n", "no column of .* is left for features"),
    ],
)
def test_what_is_no_table_of_numbers_is_named_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises((TableError, FileError, ArgumentValueError), match=message):
        data.from_csv(written(tmp_path, text), target="y")


def test_files_that_are_not_there_are_named_with_what_is(tmp_path: Path) -> None:
    written(tmp_path, "a,y\n1,2\n")
    with pytest.raises(FileError, match=r"there is no file .*tabel.csv. In .* there is: table.csv"):
        data.from_csv(tmp_path / "tabel.csv", target="y")
    with pytest.raises(FileError, match=r"there is no file .*Check the path; the current folder is"):
        data.from_csv(tmp_path / "nowhere" / "table.csv", target="y")
    with pytest.raises(FileError, match=r"is a folder. Pass the path of one file"):
        data.from_csv([tmp_path], target="y")
    with pytest.raises(FileError, match=r"cannot be read: File name too long"):
        data.from_csv("a" * 300, target="y")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": 3}, ArgumentTypeError, "target must be a column's name or a list of names, got 3"),
        ({"target": []}, ArgumentValueError, "target must name at least one column"),
        ({"target": "y", "features": ["a", "a"]}, ArgumentValueError, "features names a column twice"),
        ({"target": "y", "features": ["y"]}, ArgumentValueError, "'y' is the target and a feature at once"),
        ({"target": "y", "features": ["aa"]}, TableError, r"no column 'aa'.*Did you mean 'a'\?"),
        ({"target": "y", "features": [1]}, ArgumentTypeError, "features must be"),
        ({"target": "y", "delimiter": ";;"}, ArgumentValueError, "delimiter must be one character"),
        ({"target": "y", "delimiter": None}, ArgumentValueError, "delimiter must be one character"),
        ({"target": "y", "dtype": torch.int64}, ArgumentTypeError, "dtype must be a floating torch dtype"),
        ({"target": "y", "dtype": "float32"}, ArgumentTypeError, "dtype must be a floating torch dtype"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    file = written(tmp_path, "a,b,y\n1,2,3\n")
    with pytest.raises(error, match=message):
        data.from_csv(file, **options)
    with pytest.raises(ArgumentTypeError, match="path must be a path"):
        data.from_csv(None, target="y")  # type: ignore[call-overload]


def test_frames_become_pairs() -> None:
    frame = pd.DataFrame({"a": [1, 2], "flag": [True, False], "y": [0.5, 1.5]})
    dataset = data.from_frame(frame, target="y")
    x, y = dataset.take_batch([1, 0])
    assert x.tolist() == [[2, 0], [1, 1]]
    assert y.tolist() == [[1.5], [0.5]]
    assert x.dtype == torch.float32
    assert data.from_frame(frame, target="y", features=["a"], dtype=torch.float64)[0][0].dtype == torch.float64
    assert data.from_frame(frame.astype(object), target="y").take_batch([1])[0].tolist() == [[2, 0]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["x", "y"]}, "column 'a' of the frame.*text|holds str"),
        ({"a": [1.0, None]}, r"column 'a' of the frame, row 1, is a gap \(nan\). Fill it, or drop it"),
        ({"a": pd.array([1, None], dtype="Int64")}, "column 'a' of the frame, row 1, is a gap"),
        ({"a": [1.0, float("inf")]}, "row 1, is infinite"),
        ({"a": pd.to_datetime(["2020", "2021"])}, "column 'a' of the frame holds datetime64.*not numbers"),
        ({"a": pd.Series([1, "x"], dtype=object)}, "row 1, is text, not a number: 'x'"),
        ({"a": pd.Series([1, None], dtype=object)}, r"row 1, is a gap \(None\)"),
        ({"a": pd.Series([1, [2]], dtype=object)}, r"row 1, is no number: \[2\]"),
        ({3: [1, 2]}, r"a column named 3 \(int\). Name columns by text"),
        ({"b": [1, 2]}, "the frame has no column 'a'. Its columns are 'b', 'y'"),
    ],
)
def test_frames_that_are_no_numbers_are_named_with_column_and_row(columns: dict[Any, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        data.from_frame(pd.DataFrame({**columns, "y": [1, 2]}), target="y", features=["a"])


def test_what_is_no_frame_is_refused() -> None:
    frame = pd.DataFrame(np.zeros((1, 3)), columns=["a", "a", "y"])
    with pytest.raises(TableError, match="the column 'a' 2 times"):
        data.from_frame(frame, target="y")
    with pytest.raises(TableError, match="has no rows"):
        data.from_frame(pd.DataFrame({"a": [1.0], "y": [1.0]}).iloc[:0], target="y")
    for wrong in (None, [1], {"a": [1]}, pd.DataFrame):
        with pytest.raises(ArgumentTypeError, match="frame must be a table such as a pandas DataFrame"):
            data.from_frame(wrong, target="y")  # type: ignore[call-overload]
