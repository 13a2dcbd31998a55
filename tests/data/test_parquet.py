"""Parquet files, in memory and through a mapped file: the same rows, in any process, at a cost that is that of the rows."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from torchflow import data
from torchflow.data.readers import mapped, mapping, parquet_file, spilled
from torchflow.data.readers.mapped import MappedTable
from torchflow.errors import ArgumentTypeError, FileError, TableError

BIG = 2**60 + 1


def table(rows: int = 200) -> pa.Table:
    rng = np.random.default_rng(0)
    gaps = rng.random(rows) < 0.1
    return pa.table(
        {
            "a": rng.random(rows),
            "f": rng.random(rows).astype(np.float32),
            "whole": np.arange(rows),
            "gaps": pa.array(np.arange(rows), mask=gaps),
            "late": pa.array([*range(rows - 1), None]),
            "huge": pa.array([BIG, *range(rows - 2), None]),
            "flag": rng.random(rows) < 0.5,
            "level": pa.array([f"level {i % 7}" for i in range(rows)]).dictionary_encode(),
            "text": pa.array([None if gap else f"text {i}" for i, gap in enumerate(gaps)]),
            "when": pa.array([datetime(2024, 1, 1) + timedelta(hours=i) for i in range(rows)]),
            "price": pa.array([Decimal(i) / 4 for i in range(rows)], pa.decimal128(10, 2)),
            "y": rng.random(rows),
        }
    )


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parquet_file, "ROWS_AT_ONCE", 32)  # so that a small file has many pieces
    path = tmp_path / "table.parquet"
    pq.write_table(table(), path, row_group_size=50)
    return path


def cells(batch: dict[str, Any]) -> dict[str, tuple[str, list[Any]]]:
    """The cells of a batch with their dtypes, NaN as None."""
    return {
        name: (
            str(getattr(column, "dtype", "text")),
            [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in _listed(column)],
        )
        for name, column in batch.items()
    }


def _listed(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, Tensor) else column


def test_a_parquet_file_has_rows(file: Path) -> None:
    dataset = data.from_parquet(file)
    assert len(dataset) == 200
    row = dataset[4]
    assert [row[name].item() for name in ("whole", "gaps", "price")] == [4, 4.0, 1.0]
    assert [row[name] for name in ("huge", "level", "text")] == ["3", "level 4", "text 4"]
    assert dataset[199]["huge"] == ""
    assert row["when"] == datetime(2024, 1, 1, 4, tzinfo=UTC).timestamp()
    assert dataset.schema is not None
    kinds = {field.name: field.dtype for field in dataset.schema.fields}
    assert kinds["f"] == torch.float32
    assert kinds["whole"] == torch.int64
    assert kinds["gaps"] == kinds["late"] == kinds["price"] == torch.float64
    assert kinds["huge"] is kinds["text"] is None


@pytest.mark.parametrize("features", [None, ["text", "a"]])
def test_a_mapped_table_has_the_same_rows(file: Path, features: Sequence[str] | None) -> None:
    memory = data.from_parquet(file, features=features)
    on_disk = data.from_parquet(file, features=features, cache=file.parent / "cache")
    assert on_disk.schema == memory.schema
    assert isinstance(on_disk.source, MappedTable)
    assert on_disk.source.columnar
    for indices in ([0], [199, 0, 31, 32, 33, 31], list(range(200)), torch.randint(0, 200, (64,)).tolist()):
        assert cells(on_disk.take_batch(indices)) == cells(memory.take_batch(indices))
    assert on_disk[5]["text" if features else "level"] == memory[5]["text" if features else "level"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_columns_are_the_same_in_memory_and_mapped(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    size = draw.draw(st.integers(1, 12))
    kinds: list[tuple[st.SearchStrategy[Any], pa.DataType]] = [
        (st.integers(-(2**63), 2**63 - 1), pa.int64()),
        (st.integers(0, 255), pa.uint8()),
        (st.integers(0, 2**63 - 1), pa.uint64()),
        (st.floats(allow_nan=False), pa.float64()),
        (st.floats(width=16, allow_nan=False), pa.float16()),
        (st.booleans(), pa.bool_()),
        (st.text(max_size=4), pa.string()),
        (st.sampled_from(["u", "v", ""]), pa.dictionary(pa.int8(), pa.string())),
        (st.dates(date(1800, 1, 1), date(2200, 1, 1)), pa.date32()),
        (st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), pa.timestamp("us", "UTC")),
        (st.times(), pa.time64("us")),
        (st.timedeltas(timedelta(-9), timedelta(9)), pa.duration("us")),
    ]
    columns = {}
    for place in range(draw.draw(st.integers(1, 4))):
        values, kind = draw.draw(st.sampled_from(kinds))
        cell = st.one_of(st.none(), values) if draw.draw(st.booleans()) else values
        columns[f"c{place}"] = pa.array(draw.draw(st.lists(cell, min_size=size, max_size=size)), kind)
    folder = tmp_path_factory.mktemp("any")
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=draw.draw(st.integers(1, size)))
    indices = draw.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_file, "ROWS_AT_ONCE", draw.draw(st.integers(1, size)))
        memory = data.from_parquet(folder / "t.parquet")
        on_disk = data.from_parquet(folder / "t.parquet", cache=folder / "cache")
    assert cells(memory.take_batch(indices)) == cells(on_disk.take_batch(indices))
    assert memory.schema == on_disk.schema
    for name, column in columns.items():
        assert [cell is None for cell in column.to_pylist()] == [
            cell is None or cell == "" for cell in cells(memory.take_batch(range(size)))[name][1]
        ] or column.type in (pa.string(), pa.dictionary(pa.int8(), pa.string()))


def test_a_file_is_mapped_once_and_no_batch_opens_it_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = data.from_parquet(file, cache=file.parent / "cache")
    opened: list[Path] = []
    real = mapping.opened_map

    def watched(path: Path, size: int) -> Any:
        opened.append(path)
        return real(path, size)

    monkeypatch.setattr(mapped, "opened_map", watched)
    for index in range(0, 200, 20):
        dataset.take_batch([index, 199 - index])
    assert len(opened) == 1


def test_texts_and_offsets_that_point_outside_of_a_damaged_cache_are_named(file: Path) -> None:
    folder = file.parent / "cache"
    dataset = data.from_parquet(file, cache=folder, features=["text"])
    (made,) = arrow_files(folder)
    content = bytearray(made.read_bytes())
    at = content.index(b"text 0text 1") if b"text 0text 1" in content else content.index(b"text")
    content[at : at + 2] = b"\xff\xff"
    made.write_bytes(bytes(content))
    with pytest.raises(FileError, match=r"arrow is damaged: .*Delete .*cache.* to make it anew"):
        dataset.take_batch(range(200))


def arrow_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.arrow"))


def test_a_cache_is_found_again_and_made_anew_for_another_file(file: Path) -> None:
    folder = file.parent / "cache"
    data.from_parquet(file, cache=folder)
    (made,) = arrow_files(folder)
    before = made.stat()
    assert data.from_parquet(file, cache=folder)[7]["whole"] == 7
    after = made.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    pq.write_table(table(100), file)
    assert len(data.from_parquet(file, cache=folder)) == 100
    (again,) = arrow_files(folder)  # the old one is gone
    assert again != made
    (again.parent / "manifest.json").write_text("{", encoding="utf-8")
    assert len(data.from_parquet(file, cache=folder)) == 100


def test_several_files_and_choices_of_columns_share_a_cache(file: Path) -> None:
    folder = file.parent / "cache"
    other = file.parent / "other" / file.name
    other.parent.mkdir()
    pq.write_table(table(200).set_column(2, "whole", pa.array(range(1000, 1200))), other)
    one, two = (data.from_parquet(path, cache=folder) for path in (file, other))
    few = data.from_parquet(file, cache=folder, features=["y"])
    assert [one[5]["whole"].item(), two[5]["whole"].item()] == [5, 1005]
    assert list(few[5]) == ["y"]
    assert len(arrow_files(folder)) == 3


def test_a_cache_that_was_left_half_written_is_made_anew(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent / "cache"

    def dying(piece: Any, schema: Any, parquet: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(spilled, "_plain", dying)
        with pytest.raises(KeyboardInterrupt):
            data.from_parquet(file, cache=folder)
    assert [path.name for path in folder.glob("*/*")] == []
    (left,) = folder.glob("*")
    (left / "x.arrow.1-1.part").write_text("", encoding="utf-8")
    os.utime(left / "x.arrow.1-1.part", (0, 0))
    (left / "y.arrow.1-1.part").symlink_to("nowhere")  # as one that another writer has just finished with: listed, and not there
    assert len(data.from_parquet(file, cache=folder)) == 200
    assert sorted(path.suffix for path in folder.glob("*/*") if path.exists()) == [".arrow", ".json"]


def test_a_cache_that_was_damaged_is_named(file: Path) -> None:
    folder = file.parent / "cache"
    dataset = data.from_parquet(file, cache=folder)
    os.truncate(arrow_files(folder)[0], 100)
    with pytest.raises(
        FileError, match=r"arrow cannot be read: its size is not what was written. Delete .*cache.* to make it anew"
    ):
        dataset.take_batch([0])
    (file.parent / "taken").write_text("", encoding="utf-8")
    with pytest.raises(FileError, match=r"taken.* cannot be written.*Pass another cache="):
        data.from_parquet(file, cache=file.parent / "taken")


@pytest.mark.parametrize("cache", [None, "cache"])
def test_numbers_become_pairs(file: Path, cache: str | None) -> None:
    folder = None if cache is None else file.parent / cache
    dataset = data.from_parquet(file, target="y", features=["a", "whole", "flag"], cache=folder, dtype=torch.float64)
    x, y = dataset.take_batch([3, 150])
    assert x[:, 1].tolist() == [3.0, 150.0]
    assert y.tolist() == [[value] for value in table()["y"].to_numpy()[[3, 150]]]
    assert dataset.schema == data.Schema.of_columns(("a", "whole", "flag"), ("y",), torch.float64)
    assert dataset[3][0].tolist() == x[0].tolist()


@pytest.mark.parametrize("cache", [None, "cache"])
@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("late", "column 'late' of .*table.parquet, row 199, is a gap"),
        ("text", "column 'text' of .*table.parquet holds texts, row"),
        ("when", "column 'when' of .*table.parquet holds dates"),
        ("wrong", "no column 'wrong'"),
    ],
)
def test_what_is_no_number_is_named_with_its_row(file: Path, cache: str | None, feature: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        data.from_parquet(file, target="y", features=[feature], cache=cache and file.parent / cache).take_batch(range(150, 200))


def test_limits_name_the_argument_that_raises_them(file: Path) -> None:
    with pytest.raises(FileError, match=r"200 rows of 12 columns, and at most 100 bytes are read.*cache='folder'"):
        data.from_parquet(file, max_bytes=100)
    with pytest.raises(FileError, match=r"takes more than 9,000 bytes in memory.*cache='folder'.*max_bytes="):
        data.from_parquet(file, max_bytes=9_000)
    assert len(data.from_parquet(file, max_bytes=9_000, features=["a"])) == 200
    assert len(data.from_parquet(file, max_bytes=9_000, cache=file.parent / "c")) == 200
    with pytest.raises(ArgumentTypeError, match="cache must be a path"):
        data.from_parquet(file, cache=3)  # type: ignore[call-overload]


def test_texts_that_repeat_without_end_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled, "LARGEST_PIECE", 10_000)
    codes = pa.array(np.zeros(1_000, dtype=np.int8))
    pq.write_table(pa.table({"a": pa.DictionaryArray.from_arrays(codes, pa.array(["x" * 1000]))}), tmp_path / "t.parquet")
    dataset = data.from_parquet(tmp_path / "t.parquet", cache=tmp_path / "cache")
    source = dataset.source
    assert isinstance(source, MappedTable)
    assert max(source._manifest.sizes) <= 10
    assert dataset.take_batch([999, 0])["a"] == ["x" * 1000] * 2
    monkeypatch.setattr(spilled, "LARGEST_PIECE", 500)
    with pytest.raises(FileError, match="has a row of more than"):
        data.from_parquet(tmp_path / "t.parquet", cache=tmp_path / "other")


def read_some(dataset: Any, seed: int) -> bool:
    """Read random rows again and again; in each, column b follows from column a."""
    generator = np.random.default_rng(seed)
    for _ in range(50):
        batch = dataset.take_batch(generator.integers(0, len(dataset), 50).tolist())
        if [f"text {whole}" for whole in batch["whole"].tolist()] != batch["text"]:
            return False
    return True


@pytest.mark.parametrize("how", ["threads", "fork", "spawn"])
def test_rows_are_the_same_from_threads_and_processes(tmp_path: Path, how: str) -> None:
    rows = 5_000
    pq.write_table(pa.table({"whole": range(rows), "text": [f"text {i}" for i in range(rows)]}), tmp_path / "t.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_file, "ROWS_AT_ONCE", 128)
        dataset = data.from_parquet(tmp_path / "t.parquet", cache=tmp_path / "cache")
    assert read_some(dataset, 0)  # the map is open before anyone forks
    if how == "threads":
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read_some, [dataset] * 4, range(4)))
        return
    with multiprocessing.get_context(how).Pool(2) as pool:
        assert all(pool.starmap(read_some, [(dataset, seed) for seed in range(4)]))


def test_a_mapped_table_travels_without_its_map(file: Path) -> None:
    dataset = data.from_parquet(file, cache=file.parent / "cache")
    dataset.take_batch([0])
    copy = pickle.loads(pickle.dumps(dataset.source))
    assert copy._map is None
    assert copy.length == 200
