"""Tables in several files: the rows of one table, in an order that nothing but the list or the names decides."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.test_parquet import arrow_files, cells
from torchflow import data
from torchflow.data import Dataset
from torchflow.data.fingerprint import content_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError, TableError
from torchflow.randomness import Keys

WHOLE = st.one_of(st.just(""), st.integers(-(10**4), 10**4).map(str))
CELLS = {
    "whole": WHOLE,
    "number": st.one_of(WHOLE, st.floats(-10, 10).map(repr)),
    "late": st.one_of(WHOLE, WHOLE, WHOLE, st.sampled_from(["red", "007", "2024-01-02"])),
    "huge": st.one_of(st.just(""), st.integers(2**60, 2**62).map(str)),
    "flag": st.sampled_from(["true", "False", ""]),
    "date": st.sampled_from(["2024-05-31", "1999-01-01 12:00", ""]),
}
Write = Callable[[Path, pd.DataFrame], None]


def csv(path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(path, index=False)


def parquet(path: Path, frame: pd.DataFrame) -> None:
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)


READERS: dict[str, tuple[Write, Callable[..., Dataset[Any]]]] = {
    ".csv": (csv, data.from_csv),
    ".parquet": (parquet, data.from_parquet),
}
EITHER = pytest.mark.parametrize("suffix", READERS)


def shards(folder: Path, suffix: str, *tables: dict[str, list[Any]]) -> list[Path]:
    """A file of each table: a.csv, b.csv, ..."""
    made = [folder / f"{chr(ord('a') + number)}{suffix}" for number in range(len(tables))]
    for path, table in zip(made, tables, strict=True):
        READERS[suffix][0](path, pd.DataFrame(table))
    return made


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_csv_table_cut_into_files_has_the_rows_and_the_kinds_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    """Fails if a file's own cells decide what a column is, if a column is found by its place, or if files change places."""
    folder = tmp_path_factory.mktemp("cut")
    names = draw.draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=4, unique=True))
    rows = draw.draw(st.lists(st.tuples(*(CELLS[name] for name in names)), min_size=1, max_size=12))
    rows = [(str(number), *row) for number, row in enumerate(rows)]
    header = ("id", *names)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    paths = []
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        order = draw.draw(st.permutations(range(len(header)))) if number else range(len(header))
        lines = [",".join(row[place] for place in order) for row in (header, *rows[begin:end])]
        paths.append(folder / f"{'zyxw'[number]}.csv")  # the list decides, and not the names
        paths[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "whole.csv").write_text("\n".join(",".join(row) for row in (header, *rows)) + "\n", encoding="utf-8")
    whole, joined = data.from_csv(folder / "whole.csv"), data.from_csv(paths)
    assert joined.schema == whole.schema
    everything = list(range(len(rows)))
    assert cells(joined.take_batch(everything)) == cells(whole.take_batch(everything))
    assert content_of(joined.source, Keys(0)) == content_of(whole.source, Keys(0))
    inner = sorted({cut for cut in cuts if 0 < cut < len(rows)})
    assert joined.source.seams().tolist() == inner


@pytest.mark.parametrize("cached", [False, True])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_a_parquet_table_cut_into_files_has_the_rows_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, cached: bool, draw: st.DataObject
) -> None:
    """Fails if types of the first file are taken for those of all: pandas writes whole numbers with gaps as others."""
    folder = tmp_path_factory.mktemp("cut")
    cache = folder / "cache" if cached else None
    size = draw.draw(st.integers(1, 10))
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "gaps": st.one_of(st.none(), st.integers(-(2**50), 2**50)),
        "text": st.one_of(st.none(), st.text(max_size=3)),
        "when": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
        "real": st.floats(allow_nan=False),
    }
    table = {name: draw.draw(st.lists(kind, min_size=size, max_size=size)) for name, kind in kinds.items()}
    cuts = sorted(draw.draw(st.lists(st.integers(0, size), max_size=2)))
    paths = []
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, size], strict=True)):
        part = {name: values[begin:end] for name, values in table.items()}
        columns = {
            "gaps": pa.array(part["gaps"], pa.int64() if None not in part["gaps"] else pa.float64()),
            "text": pa.array(part["text"]) if any(part["text"]) else pa.nulls(end - begin),
            "when": pa.array(part["when"], pa.timestamp("us" if number else "ns")),
            "real": pa.array(part["real"]),
        }
        if number:
            columns["text"] = columns["text"].cast("string").dictionary_encode()
        paths.append(folder / f"{number}.parquet")
        names = draw.draw(st.permutations(list(columns)))
        pq.write_table(pa.table({name: columns[name] for name in (names if number else columns)}), paths[-1])
    joined = data.from_parquet(paths, cache=cache)
    found = cells(joined.take_batch(list(range(size))))
    assert list(found) == list(table)
    assert found["gaps"][1] == table["gaps"]
    assert found["real"][1] == table["real"]
    if joined.schema is not None and joined.schema["text"].dtype is None:
        assert found["text"][1] == [text or "" for text in table["text"]]
    assert joined.schema is not None
    assert joined.schema["when"].unit == "seconds since 1970"


@EITHER
def test_a_folder_is_read_in_the_order_of_its_names_whoever_made_the_files_when(tmp_path: Path, suffix: str) -> None:
    """Fails if the order of the file system is that of the rows."""
    write, read = READERS[suffix]
    names = ["b/1", "a", "c", "B", "b/0", "a-1"]
    for number, name in enumerate(names):
        (tmp_path / "b").mkdir(exist_ok=True)
        write(tmp_path / f"{name}{suffix}", pd.DataFrame({"x": [number], "y": [0]}))
    (tmp_path / "_SUCCESS").write_text("", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"_SUCCESS \(another suffix\) in the folder are left out") as caught:
        dataset = read(tmp_path)
    assert caught[0].filename == __file__
    order = sorted((f"{name}{suffix}" for name in names), key=lambda name: name.split("/"))
    assert dataset.take_batch(range(6))["x"].tolist() == [names.index(name.removesuffix(suffix)) for name in order]
    assert dataset.left_out == (("_SUCCESS", "another suffix"),)
    assert dataset.take(3).left_out == dataset.left_out


@EITHER
@pytest.mark.parametrize("target", [None, "y"])
def test_windows_end_with_a_file_as_those_of_datasets_that_were_joined(tmp_path: Path, suffix: str, target: str | None) -> None:
    paths = shards(tmp_path, suffix, *({"x": list(range(n, n + 5)), "y": [1] * 5} for n in (0, 10, 20)))
    read = READERS[suffix][1]
    joined = read(paths, target=target).windows(3, 2)
    one, *others = (read(path, target=target) for path in paths)
    apart = one.concat(*others).windows(3, 2)
    assert len(joined) == len(apart) == 6
    x = joined.take_batch(range(6))
    expected = apart.take_batch(range(6))
    assert torch.equal(x[0], expected[0]) if target else torch.equal(x["x"], expected["x"])
    assert read(paths, target=target).split(2, 13)[0].windows(1)


@EITHER
@pytest.mark.parametrize("target", [None, "y"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"x": [1], "z": [1], "yy": [1]},
            r"b\.\w+ has no column 'y'\. Its columns are .* Did you mean 'yy'\? \S+a\.\w+ has it\. Name",
        ),
        ({"x": [1], "y": [1]}, r"b\.\w+ has no column 'z'\..*a\.\w+ has it\. Name the columns that all files have"),
        (
            {"x": [1], "y": [1], "z": [1], "w": [1]},
            r"b\.\w+ has the column 'w', which \S+a\.\w+ has not\. Name the columns that all",
        ),
    ],
)
def test_columns_that_differ_are_named_with_their_file(
    tmp_path: Path, suffix: str, target: str | None, other: dict[str, list[Any]], message: str
) -> None:
    """Fails if the columns of the first file are taken for those of all."""
    paths = shards(tmp_path, suffix, {"x": [1], "z": [1], "y": [1]}, other)
    with pytest.raises(TableError, match=message):
        READERS[suffix][1](paths, target=target)


@EITHER
def test_columns_that_are_named_are_all_that_files_must_have(tmp_path: Path, suffix: str) -> None:
    read = READERS[suffix][1]
    paths = shards(tmp_path, suffix, {"x": [1], "old": [1], "y": [3]}, {"new": [5], "y": [4], "x": [2]})
    x, y = read(paths, target="y", features=["x"]).take_batch([0, 1])
    assert (x.tolist(), y.tolist()) == ([[1], [2]], [[3], [4]])
    assert read(paths, features=["y", "x"]).take_batch([1, 0])["y"].tolist() == [4, 3]
    with pytest.raises(TableError, match=r"b\.\w+ has no column 'old'"):
        read(paths, target="y", features=["old"])


def test_two_columns_of_one_name_are_refused_in_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("x,y,y\n1,2,3\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"b\.csv has the column 'y' 2 times"):
        data.from_csv(tmp_path)
    (tmp_path / "b.csv").write_text("x;y\n1;2\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"b\.csv has no column 'x'.*The header holds ';'"):
        data.from_csv(tmp_path)


def test_a_wrong_cell_of_a_further_file_is_named_with_file_and_line(tmp_path: Path) -> None:
    paths = shards(tmp_path, ".csv", {"x": [1, 2], "y": [1, 2]}, {"y": [1, 2], "x": ["3", "red"]})
    with pytest.raises(TableError, match=r"b\.csv, line 3, column 'x' is text, not a number: 'red'"):
        data.from_csv(paths, target="y")
    paths[1].write_text("x,y\n1\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"b\.csv, line 2 has 1 cells"):
        data.from_csv(paths)
    paths[1].write_text("", encoding="utf-8")
    with pytest.raises(FileError, match=r"b\.csv is empty") as caught:
        data.from_csv(paths)
    assert caught.value.path == str(paths[1])


@pytest.mark.parametrize("cached", [False, True])
def test_a_gap_of_a_further_file_is_named_with_file_and_row(tmp_path: Path, cached: bool) -> None:
    """Fails if the row of the whole table is named, which nobody finds in a file."""
    cache = tmp_path / "cache" if cached else None
    parts: list[dict[str, list[Any]]] = [{"x": [float(n), 1.0], "y": [1.0, 2.0]} for n in range(3)]
    parts[2]["x"][1] = float("inf")
    paths = shards(tmp_path, ".parquet", *parts)
    with pytest.raises(TableError, match=r"column 'x' of \S+c\.parquet, row 1, is infinite"):
        data.from_parquet(paths, target="y", cache=cache).take_batch([0, 2, 5, 4])
    paths = shards(tmp_path, ".parquet", *parts[:2], {"x": ["a", "b"], "y": [1.0, 2.0]})
    with pytest.raises(TableError, match=r"column 'x' of \S+c\.parquet holds (large_)?string, and double in the files before it"):
        data.from_parquet(paths, target="y", cache=cache)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.array([1]), pa.array([0.5], pa.float32()), torch.float64),
        (pa.array([1], pa.int8()), pa.array([2**40]), torch.int64),
        (pa.array([0.5], pa.float32()), pa.array([0.25], pa.float64()), torch.float64),
        (pa.array([1]).dictionary_encode(), pa.array([2]), torch.int64),
        (pa.nulls(1), pa.array([True]), torch.float64),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()).dictionary_encode(), None),
        (pa.array([2**60]), pa.array([0.5]), "fit double, which its other files need"),
        (pa.array([1]), pa.array([True]), "holds bool, and int64 in the files before it"),
        (pa.array([1]), pa.array([datetime(2024, 1, 1)]), r"holds timestamp\[us\], and int64"),
        (pa.array([1]), pa.array([[1]]), "holds list"),
    ],
)
def test_types_that_hold_the_cells_of_all_files_are_found_and_others_refused(
    tmp_path: Path, cached: bool, one: Any, other: Any, expected: torch.dtype | str | None
) -> None:
    cache = tmp_path / "cache" if cached else None
    for name, column in (("a", one), ("b", other)):
        pq.write_table(pa.table({"x": column}), tmp_path / f"{name}.parquet")
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    if isinstance(expected, str):
        with pytest.raises(TableError, match=rf"column 'x' of \S+[ab]\.parquet .*{expected}"):
            data.from_parquet(paths, cache=cache)
        return
    dataset = data.from_parquet(paths, cache=cache)
    assert dataset.schema is not None
    assert dataset.schema["x"].dtype is expected
    found = cells(dataset.take_batch([0, 1]))["x"][1]
    assert found == [one.to_pylist()[0], other.to_pylist()[0]]


def test_a_cache_of_several_files_is_made_anew_when_one_of_them_changes(tmp_path: Path) -> None:
    """Fails if only the first file is looked at, or if two orders share a folder."""
    cache = tmp_path / "cache"
    paths = shards(tmp_path, ".parquet", {"x": [1]}, {"x": [2]})
    assert data.from_parquet(paths, cache=cache).take_batch([0, 1])["x"].tolist() == [1, 2]
    (made,) = arrow_files(cache)
    before = made.stat().st_mtime_ns
    assert len(data.from_parquet(paths, cache=cache)) == 2
    assert made.stat().st_mtime_ns == before
    parquet(paths[1], pd.DataFrame({"x": [3, 4]}))
    assert data.from_parquet(paths, cache=cache).take_batch([0, 1, 2])["x"].tolist() == [1, 3, 4]
    assert len(arrow_files(cache)) == 1
    assert data.from_parquet(paths[::-1], cache=cache).take_batch([0, 1, 2])["x"].tolist() == [3, 4, 1]
    assert len(arrow_files(cache)) == 2


@EITHER
def test_limits_are_those_of_all_files_together(tmp_path: Path, suffix: str) -> None:
    paths = shards(tmp_path, suffix, *({"x": list(range(100))} for _ in range(3)))
    most = 2 * (paths[0].stat().st_size if suffix == ".csv" else 800)
    with pytest.raises(FileError, match=r"a\.\w+ and 2 more .*max_bytes="):
        READERS[suffix][1](paths, max_bytes=most)
    assert len(READERS[suffix][1](paths[:2], max_bytes=most)) == 200


@EITHER
def test_files_without_rows_are_no_error_unless_all_are_so(tmp_path: Path, suffix: str) -> None:
    paths = shards(tmp_path, suffix, {"x": [1]}, {"x": [1]}, {"x": [2]})
    write, read = READERS[suffix]
    write(paths[1], pd.DataFrame({"x": pd.Series([], dtype="int64")}))
    dataset = read(paths)
    assert dataset.take_batch([0, 1])["x"].tolist() == [1, 2]
    assert dataset.source.seams().tolist() == [1]
    with pytest.raises(TableError, match=r"the table of \S+b\.\w+ and 1 more file has .*no rows"):
        read([paths[1], paths[1]])


@EITHER
def test_what_has_no_order_or_no_path_is_refused(tmp_path: Path, suffix: str) -> None:
    """Fails if a set or a generator of Path.glob, whose order no promise covers, is read as it comes."""
    read = READERS[suffix][1]
    paths = shards(tmp_path, suffix, {"x": [1]}, {"x": [2]})
    for wrong in (set(paths), tmp_path.glob("*"), pd.DataFrame({"x": [1]}), {"x": [1]}, b"a", None, 3):
        with pytest.raises(ArgumentTypeError, match=r"path must be a path, a list of paths or a folder, got .*make a list: sorted"):
            read(wrong)
    with pytest.raises(ArgumentTypeError, match="path 1 must be a path"):
        read([paths[0], 3])
    with pytest.raises(ArgumentValueError, match="the list of files is empty"):
        read([])
    with pytest.raises(FileError, match=r"there is no file .*patterns are not expanded\. Pass a list, sorted\(glob\.glob\("):
        read(tmp_path / f"*{suffix}")
    with pytest.raises(FileError, match=r"there is no file .*c\.\w+\. In .* there is: a\.\w+, b\.\w+"):
        read([*paths, tmp_path / f"c{suffix}"])
    with pytest.raises(FileError, match=r"is a folder\. Pass the path of one file in it"):
        read([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"has nothing to read: from_\w+ reads \.\w+, \.\w+\. It holds no files"):
        read(tmp_path / "empty")


@EITHER
def test_a_folder_that_holds_a_column_in_its_names_is_refused(tmp_path: Path, suffix: str) -> None:
    """Fails if the column is lost in silence."""
    (tmp_path / "all" / "year=2024").mkdir(parents=True)
    paths = shards(tmp_path / "all" / "year=2024", suffix, {"x": [1]})
    with pytest.raises(FileError, match=r"a\.\w+ lies in 'year=2024', which says a column's value.*as a list"):
        READERS[suffix][1](tmp_path / "all")
    assert len(READERS[suffix][1](paths)) == 1


@EITHER
def test_a_table_of_files_travels_and_trains_as_that_of_one(tmp_path: Path, suffix: str) -> None:
    paths = shards(tmp_path, suffix, {"x": [1.0, 2.0], "y": [1.0, 0.0]}, {"x": [3.0], "y": [0.5]})
    read = READERS[suffix][1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read([os.fspath(path) for path in paths], target="y")
    assert repr(dataset) == repr(read(paths, target="y"))
    assert repr(dataset).startswith(f"Dataset(3 samples, from_{'csv' if suffix == '.csv' else 'parquet'}; ")
    copy = pickle.loads(pickle.dumps(dataset.source))
    assert copy.seams().tolist() == [2]
    assert copy.columnar
    column = dataset.source.column(1)
    assert column is None or column.tolist() == [[1.0], [0.0], [0.5]]
    assert dataset.map(lambda pair: pair[0] * 2).cache(tmp_path / "cache")[2].tolist() == [6.0]
