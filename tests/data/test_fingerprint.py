from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import Dataset, batches_of
from torchflow.data.fingerprint import SAMPLES, content_of
from torchflow.randomness import Keys

KEYS = Keys(0)


def content(dataset: Any, keys: Keys = KEYS) -> str | None:
    return content_of(data.as_dataset(dataset).source, keys)


def table(rows: int) -> dict[str, torch.Tensor]:
    return {"x": torch.arange(rows * 2.0).reshape(rows, 2), "y": torch.arange(rows)}


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 100))
def test_equal_data_has_an_equal_digest_and_no_seed_or_cut_changes_it(rows: int) -> None:
    assert content(table(rows)) == content(table(rows))
    described = [
        batches_of(table(rows), keys=KEYS, name="train", batch_size=size, shuffle=order).describe()["content"]
        for size in (1, 7)
        for order in (True, False)
    ]
    assert set(described) == {content(table(rows))}


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, SAMPLES), row=st.integers(0, SAMPLES - 1))
def test_a_changed_row_of_a_small_table_is_always_noticed(rows: int, row: int) -> None:
    changed = table(rows)
    changed["x"][row % rows, 1] += 1
    assert content(changed) != content(table(rows))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {"z": t["x"], "y": t["y"]},
        lambda t: {"x": t["x"].double(), "y": t["y"]},
        lambda t: {"x": t["x"].reshape(-1, 2, 1), "y": t["y"]},
        lambda t: {"x": t["x"] * 2, "y": t["y"]},
        lambda t: {"x": t["x"].flip(0), "y": t["y"]},
    ],
    ids=["name", "dtype", "shape", "scale", "order"],
)
def test_other_names_dtypes_shapes_values_and_orders_are_noticed(change: Any) -> None:
    assert content(change(table(1000))) != content(table(1000))


def test_the_first_and_the_last_row_of_a_large_table_are_looked_at() -> None:
    for row in (0, 15 * (999 // 15)):
        changed = table(1000)
        changed["y"][row] = -1
        assert content(changed) != content(table(1000))


def test_samples_of_any_plain_kind_are_described() -> None:
    words: Dataset[Any] = data.from_iterable([("a", 1, 2.5, None), ("b", 2, 3.5, None)])
    other: Dataset[Any] = data.from_iterable([("a", 1, 2.5, None), ("c", 2, 3.5, None)])
    assert content(words) not in (None, content(other))


def test_data_whose_reading_runs_a_users_python_is_not_read_at_a_start() -> None:
    def explode(index: int) -> int:
        raise AssertionError("read at the start")

    assert content(data.from_function(explode, 10)) is None
