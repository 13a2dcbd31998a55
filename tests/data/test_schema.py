"""A schema says what samples are, through all that the algebra does with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import Dataset, Field, Schema
from torchflow.tree import leaves_with_paths


def table() -> Dataset[Any]:
    return data.from_tensors(torch.arange(48.0).reshape(24, 2), torch.arange(24))


STEPS = {
    "select": lambda d: d.select([0, -1, 1, 1, 0, 1]),
    "take": lambda d: d.take(15),
    "skip": lambda d: d.skip(1),
    "filter": lambda d: d.filter(lambda sample: True),
    "cache": lambda d: d.cache(),
    "repeat": lambda d: d.repeat(2),
    "concat": lambda d: d.concat(d),
    "zip": lambda d: d.zip(d),
    "windows": lambda d: d.windows(2),
    "ahead": lambda d: d.windows(2, horizon=1),
    "split": lambda d: d.split(0.5, 0.5, time=True)[0],
    "kfold": lambda d: d.kfold(2, time=True)[1][0],
    "standardize": lambda d: d.map_batch(data.Standardize(0).fit(d.as_training())),
}


@settings(deadline=None, max_examples=60)
@given(names=st.lists(st.sampled_from(sorted(STEPS)), max_size=3))
def test_whatever_is_done_the_schema_has_the_shapes_and_dtypes_of_the_samples(names: list[str]) -> None:
    """Fails if any node hands the schema on unchanged where it changes samples: windows, zip, an encoder."""
    dataset = table()
    for name in names:
        if name == "standardize" and not isinstance(dataset[0][0], torch.Tensor):
            continue  # nested samples have no tensor at 0
        dataset = STEPS[name](dataset)
    if dataset.schema is None:  # an encoder of one part of nested samples does not say what it made
        assert "standardize" in names
        return
    leaves = [leaf for _, leaf in leaves_with_paths(dataset[0])]
    assert [(field.shape, field.dtype) for field in dataset.schema.fields] == [(tuple(leaf.shape), leaf.dtype) for leaf in leaves]
    assert len({field.name for field in dataset.schema.fields}) == len(leaves)


def test_samples_that_nobody_described_have_no_schema() -> None:
    plain = table().map(lambda sample: sample[0])
    assert plain.schema is None
    assert plain.zip(table()).schema is None
    assert plain.concat(plain).schema is None
    assert plain.windows(2).schema is None
    assert repr(plain) == "Dataset(24 samples, from_tensors.map)"


def test_a_concat_of_other_sizes_says_so_and_of_other_kinds_says_nothing() -> None:
    short, long = data.from_tensors(torch.zeros(2, 3)), data.from_tensors(torch.zeros(2, 5))
    assert short.concat(long).schema == Schema((Field("x", (None,), torch.float32),))
    other: Any
    for other in (torch.zeros(2, 3).double(), torch.zeros(2, 3, 1), {"y": torch.zeros(2, 3)}, (torch.zeros(2), torch.zeros(2))):
        assert short.concat(data.from_tensors(other)).schema is None


def test_columns_are_named_by_their_keys() -> None:
    nested = {"image": torch.zeros(2, 3, 4, 4), "boxes": {"left": torch.zeros(2), "right": torch.zeros(2)}}
    schema = data.from_tensors(nested).schema
    assert schema is not None
    assert [str(field) for field in schema.fields] == ["image: float32 3x4x4", "boxes.left: float32", "boxes.right: float32"]
    assert [field.name for field in table().schema.fields] == ["x", "y"]  # type: ignore[union-attr]
    assert data.linear().schema["y"].target  # type: ignore[index]


def test_windows_add_a_dimension_of_time() -> None:
    sound = Field("audio", (2, 160), torch.float32, "amplitude", dims=("channel", "time"), rate=16_000.0)
    dataset: Dataset[Any] = data.from_tensors(torch.zeros(5, 2))
    dataset.source.schema = Schema((Field("wind", (2,), torch.float32, "m/s", columns=("u", "v")), sound))
    past, _, ahead, last = dataset.windows(3, horizon=2).schema.fields  # type: ignore[union-attr]
    assert past == Field("wind", (3, 2), torch.float32, "m/s", columns=("u", "v"), dims=("time", "feature"))
    assert ahead == replace(past, name="wind_ahead", shape=(2, 2), target=True)
    assert last.dims == ("time", "channel", "time")


def test_encoders_say_what_they_make_of_a_part() -> None:
    words: Dataset[Any] = data.from_tensors((torch.zeros(3, 2, dtype=torch.int64), torch.tensor([7, 5, 7])))
    kinds = data.Categories(1, unknown="code").fit(words)
    encoded = words.map_batch(kinds).map_batch(data.Standardize("x").fit(data.from_tensors({"x": torch.zeros(2, 2)})))
    assert encoded.schema == Schema(
        (Field("x", (2,), torch.float32), Field("y", (), torch.int64, classes=("5", "7", "unknown"), target=True))
    )
    assert words.map_batch(data.Standardize(5).fit(data.from_tensors(tuple(torch.zeros(6, 2, 2))))).schema is None
    deep = torch.zeros(3, 4)
    for nested in (words.zip(data.from_tensors(deep)), data.from_tensors(((deep, deep), deep))):
        assert nested.map_batch(data.Standardize(1).fit(nested)).schema is None  # position 1 of a sample is no field's position


def test_a_long_schema_is_shown_short() -> None:
    many = data.from_tensors({f"c{place}": torch.zeros(2) for place in range(20)})
    assert repr(many).endswith("c4: float32, c5: float32, and 14 more)")


def test_a_missing_part_is_named() -> None:
    with pytest.raises(KeyError, match="a sample has no part 'z'; it has 'x', 'y'"):
        table().schema["z"]  # type: ignore[index]
