"""Frames of every maker hold the same rows."""

from __future__ import annotations

import importlib.util
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torchflow import data
from torchflow.errors import ArgumentTypeError, MissingExtraError, TableError

MORNING = datetime(2024, 5, 31, 6)
COLUMNS: dict[str, list[Any]] = {
    "whole": [1, 2, 3],
    "gaps": [1, None, 3],
    "huge": [2**60 + 1, None, 3],
    "number": [0.5, None, -1.0],
    "flag": [True, False, True],
    "maybe": [True, None, False],
    "text": ["x", None, ""],
    "when": [MORNING, None, datetime(1969, 12, 31)],
    "nothing": [None, None, None],
}
EXPECTED: dict[str, list[Any]] = {
    "whole": [1, 2, 3],
    "gaps": [1.0, None, 3.0],
    "huge": [str(2**60 + 1), None, "3"],
    "number": [0.5, None, -1.0],
    "flag": [True, False, True],
    "maybe": [1.0, None, 0.0],
    "text": ["x", None, None],
    "when": [MORNING.replace(tzinfo=UTC).timestamp(), None, -86_400.0],
    "nothing": [None, None, None],
}


def arrow() -> pa.Table:
    return pa.table(COLUMNS)


def pandas() -> pd.DataFrame:
    types = {"gaps": "Int64", "huge": "Int64", "maybe": "boolean"}
    made = {name: pd.array(cells, dtype=types[name]) if name in types else cells for name, cells in COLUMNS.items()}  # type: ignore[call-overload]
    return pd.DataFrame(made, index=["i", "j", "k"])


def polars() -> pl.DataFrame:
    return pl.DataFrame(COLUMNS)


def cells(batch: dict[str, Any]) -> dict[str, list[Any]]:
    made = {name: column.tolist() if isinstance(column, Tensor) else column for name, column in batch.items()}
    return {
        name: [None if cell == "" or (isinstance(cell, float) and math.isnan(cell)) else cell for cell in column]
        for name, column in made.items()
    }


@pytest.mark.parametrize("make", [arrow, pandas, polars, lambda: polars().lazy()])
def test_frames_of_every_maker_have_the_same_rows(make: Any) -> None:
    dataset = data.from_frame(make())
    assert cells(dataset.take_batch([0, 1, 2])) == EXPECTED
    assert dataset.schema is not None
    assert dataset.schema["when"].unit == "seconds since 1970"
    assert dataset.schema["whole"].dtype == torch.int64
    assert dataset.schema["flag"].dtype == torch.bool


def test_a_relation_of_duckdb_has_the_same_rows() -> None:
    query = "select * from (values (1, 'x', true, date '1970-01-02', 1.25::decimal(4,2)), (2, null, false, null, null)) t(a, t, f, d, m)"
    found: Any = duckdb.sql(query)
    batch = data.from_frame(found).take_batch([0, 1])
    assert cells(batch) == {"a": [1, 2], "t": ["x", None], "f": [True, False], "d": [86_400.0, None], "m": [1.25, None]}
    pair: Any = duckdb.sql("select 1 as a, 2 as y")
    x, y = data.from_frame(pair, target="y")[0]
    assert (x.tolist(), y.tolist()) == ([1.0], [2.0])


def test_without_pyarrow_frames_are_read_through_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for make in (pandas, polars):
        frame: Any = make()
        dropped = (
            frame.drop(["huge"]) if isinstance(frame, pl.DataFrame) else frame
        )  # polars hands NumPy floats for whole numbers with gaps
        batch = cells(data.from_frame(dropped).take_batch([0, 1, 2]))
        assert batch == {name: EXPECTED[name] for name in batch}
    assert importlib.util.find_spec("pyarrow") is None


def test_an_arrow_table_without_pyarrow_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = arrow()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"needs pyarrow, which is not installed: pip install 'torchflow-train\[table\]'"):
        data.from_frame(table)


@given(st.data())
def test_arrow_and_numpy_say_the_same_of_a_pandas_frame(draw: st.DataObject) -> None:
    size = draw.draw(st.integers(1, 5))
    kinds: list[tuple[st.SearchStrategy[Any], str | None]] = [
        (st.integers(-(2**62), 2**62), "int64"),
        (st.floats(allow_nan=True, allow_infinity=False), "float64"),
        (st.booleans(), "bool"),
        (st.one_of(st.none(), st.text(max_size=3)), "object"),
        (st.one_of(st.none(), st.integers(-5, 5)), "object"),
        (st.sampled_from(["u", "v"]), "category"),
        (st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda d: d.replace(microsecond=0)), "datetime64[us]"),
        (st.timedeltas(timedelta(0), timedelta(9)).map(lambda d: timedelta(seconds=d.seconds)), "timedelta64[us]"),
    ]
    chosen = draw.draw(st.lists(st.sampled_from(range(len(kinds))), min_size=1, max_size=4))
    columns = {
        f"c{place}": pd.Series(draw.draw(st.lists(kinds[kind][0], min_size=size, max_size=size)), dtype=kinds[kind][1])
        for place, kind in enumerate(chosen)
    }
    frame = pd.DataFrame(columns)
    through_arrow = data.from_frame(frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        through_numpy = data.from_frame(frame)
    one, other = (dataset.take_batch(range(size)) for dataset in (through_arrow, through_numpy))
    assert cells(one) == cells(other)
    assert through_arrow.schema == through_numpy.schema


@pytest.mark.parametrize(
    ("frame", "options", "error", "message"),
    [
        (pa.table({"a": [[1]]}), {}, TableError, "column 'a' of the frame holds list<.*features="),
        (pd.DataFrame({"a": pd.Series([1, [2]], dtype=object)}), {}, TableError, r"column 'a' of the frame, row 1, is no number"),
        (pd.DataFrame({"a": [1.0]}).iloc[:0], {}, TableError, "has no rows"),
        (pd.DataFrame({3: [1.0]}), {}, TableError, "a column named 3"),
        (pa.table({"a": [1, 2], "y": [1.0, None]}), {"target": "y"}, TableError, "column 'y' of the frame, row 1, is a gap"),
        (pa.table({"a": ["u", "v"], "y": [1, 2]}), {"target": "y"}, TableError, "column 'a' of the frame holds texts, row 0 'u'"),
        (pa.table({"a": [date(2020, 1, 1)], "y": [1]}), {"target": "y"}, TableError, "column 'a' of the frame holds dates"),
        (pa.table({"a": [np.inf], "y": [1]}), {"target": "y"}, TableError, "column 'a' of the frame, row 0, is infinite"),
        (pa.table({"a": [1]}), {"target": "b"}, TableError, "no column 'b'"),
        ([1], {}, ArgumentTypeError, "frame must be a table such as a pandas DataFrame"),
        (pa.Table, {}, ArgumentTypeError, "frame must be a table such as a pandas DataFrame"),
    ],
)
def test_what_is_no_table_is_named(frame: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.from_frame(frame, **options)


def test_objects_of_several_kinds_become_texts_and_leave_the_others_alone() -> None:
    frame = pd.DataFrame({"a": pd.Series([1, "x", None], dtype=object), "b": pd.array([1, None, 2**60], dtype="Int64")})
    batch = data.from_frame(frame).take_batch([0, 1, 2])
    assert batch["a"] == ["1", "x", ""]
    assert batch["b"] == ["1", "", str(2**60)]
