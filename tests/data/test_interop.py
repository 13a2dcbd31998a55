from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, random_split
from torch.utils.data import Dataset as TorchDataset

from torchflow import data
from torchflow.data import as_dataset, batches_of
from torchflow.errors import ArgumentTypeError, DataError
from torchflow.randomness import Keys


class Foreign(TorchDataset[Any]):
    """A map-style dataset whose length and samples may lie."""

    def __init__(self, length: Any = 4, sample: Any = 1.0, at: int = -1, error: BaseException | None = None) -> None:
        self.length, self.sample, self.at, self.error = length, sample, at, error

    def __len__(self) -> int:
        if isinstance(self.length, Exception):
            raise self.length
        return self.length  # type: ignore[no-any-return]

    def __getitem__(self, index: int) -> Any:
        if index == self.at and self.error is not None:
            raise self.error
        return self.sample


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield 1


class Pair(NamedTuple):
    x: Any
    y: Any


def test_a_dataset_is_itself() -> None:
    dataset = data.linear(samples=3)
    assert as_dataset(dataset) is dataset


@pytest.mark.parametrize(
    ("given", "lineage"),
    [
        (torch.zeros(3, 2), "from_tensors"),
        (np.zeros((3, 2)), "from_arrays"),
        ((torch.zeros(3), torch.zeros(3)), "from_tensors"),
        ((torch.zeros(3), np.zeros(3)), "from_arrays"),
        ({"x": np.zeros(3), "y": np.zeros(3)}, "from_arrays"),
        ({"x": torch.zeros(3), "y": (torch.zeros(3), torch.zeros(3))}, "from_arrays"),
        (Pair(torch.zeros(3), torch.zeros(3)), "from_tensors"),
        (TensorDataset(torch.zeros(3), torch.zeros(3)), "from_tensors"),
        (Subset(TensorDataset(torch.zeros(9)), [3, 4, 5]), "from_tensors.select"),
    ],
)
def test_columns_stay_columns(given: Any, lineage: str) -> None:
    dataset = as_dataset(given)
    assert len(dataset) == 3
    assert dataset.source.columnar
    assert dataset.source.lineage == lineage


def test_torch_datasets_give_the_samples_that_they_gave() -> None:
    torch_dataset = TensorDataset(torch.arange(10))
    subset = random_split(torch_dataset, [0.5, 0.5], generator=torch.Generator().manual_seed(0))[0]
    assert [tuple(map(int, sample)) for sample in as_dataset(subset)] == [tuple(map(int, subset[i])) for i in range(5)]
    assert isinstance(as_dataset(torch_dataset)[0], tuple)


@pytest.mark.parametrize(
    "given", [Foreign(), [1.0, 2.0, 3.0, 4.0], (1.0, 2.0, 3.0, 4.0), range(4), [torch.zeros(4), torch.zeros(4)] * 2]
)
def test_anything_with_a_length_and_items_is_a_foreign_dataset(given: Any) -> None:
    dataset = as_dataset(given)
    assert len(dataset) == 4
    assert dataset.source.foreign == (type(given) not in (list, tuple, range))
    assert dataset.take_batch([3, 0]).shape[0] == 2
    assert dataset.source.lineage == type(given).__name__


class Lazy(Sequence[float]):
    """A column that reads when it is asked, as those of Hugging Face's datasets do."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: Any) -> Any:
        return [0.0] * 4 if isinstance(index, slice) else 0.0

    def __repr__(self) -> str:
        return "Lazy()"


def test_a_tuple_of_lists_is_two_samples_still() -> None:
    assert [sample.tolist() for sample in as_dataset(([1, 2], [3, 4])).take_batch([1, 0])] == [[3, 1], [4, 2]]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            (Lazy(), Lazy()),
            ArgumentTypeError,
            r"train\[0\] is Lazy\(\) \(Lazy\), which is a column that is neither.*Take its values: torch.as_tensor\(column\[:\]\)",
        ),
        ({"x": torch.zeros(4), "y": Lazy()}, ArgumentTypeError, r"train\['y'\] is Lazy\(\) \(Lazy\), which is a column"),
        (None, ArgumentTypeError, "train must be a Dataset, a tuple or dict of tensors.*got None"),
        ("data.csv", ArgumentTypeError, r"got 'data.csv' \(str\). Read a file with torchflow.data.from_csv"),
        (b"data", ArgumentTypeError, r"\(bytes\)"),
        (3, ArgumentTypeError, r"got 3 \(int\)"),
        (3.5, ArgumentTypeError, r"got 3.5 \(float\)"),
        ({}, ArgumentTypeError, "a dict, whose values must be tensors or arrays: it is empty"),
        ({"x": [1, 2]}, ArgumentTypeError, r"\['x'\] is \[1, 2\] \(list\)"),
        (Foreign, ArgumentTypeError, r"got the class Foreign. Call it: Foreign\(...\)"),
        (pd.DataFrame({"a": [1]}), ArgumentTypeError, "train is a table. Use torchflow.data.from_frame"),
        (Endless(), ArgumentTypeError, "an IterableDataset, which yields samples one by one|torch IterableDataset.*DataLoader"),
        ([], DataError, "train has no samples"),
        ((), DataError, "train has no samples"),
        (torch.zeros(0, 3), DataError, "train has no samples"),
        (torch.tensor(3.0), DataError, "needs a first dimension of samples"),
        ((torch.zeros(3), torch.zeros(4)), DataError, r"columns of one length: \[0\] has 3, \[1\] has 4"),
        (Foreign(length=0), DataError, "train has no samples"),
        (Foreign(length=-1), DataError, r"len\(train\) must be a whole number from 0 on, got -1"),
        (Foreign(length=2.5), DataError, r"got 2.5 \(float\). Correct its __len__"),
        (Foreign(length=True), DataError, r"got True \(bool\)"),
        (Foreign(length="4"), DataError, r"got '4' \(str\)"),
        (Foreign(length=RuntimeError("lost")), DataError, r"len\(train\) failed: it raised RuntimeError: lost"),
        (data.linear(samples=5).filter(lambda _: False), DataError, "train has no samples"),
        (np.array(["a", "b"]), ArgumentTypeError, "dtype <U1, which torch does not have. Turn text and categories into numbers"),
        (np.array([object()]), ArgumentTypeError, "dtype object"),
        (object(), ArgumentTypeError, "got <object object"),
    ],
)
def test_what_is_no_dataset_is_named_with_what_to_do(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        batches_of(given, keys=Keys(0), name="train")


@pytest.mark.parametrize("given", [DataLoader(Foreign()), (i for i in range(3)), {1, 2}])
def test_what_only_yields_has_no_samples_by_index(given: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"data must have samples by index, and a .* only yields. Pass its dataset"):
        as_dataset(given)


@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        (Foreign(sample=None), "Foreign returned None for index 0. Return a sample, or leave the index out"),
        (Foreign(sample="text"), "sample 0 is str: 'text'"),
        (Foreign(sample=object()), "the sample of sample 0 is object, which no tensor can hold"),
        (
            Foreign(at=2, error=IndexError("list index out of range")),
            "Foreign failed at sample 2: it raised IndexError: list index",
        ),
        (Foreign(at=3, error=StopIteration()), "Foreign failed at sample 3: it raised StopIteration"),
        (Foreign(at=0, error=KeyError("k")), "Foreign failed at sample 0: it raised KeyError: 'k'"),
        (Foreign(at=1, error=SystemExit(2)), "Foreign failed at sample 1: it raised SystemExit: 2"),
    ],
)
def test_foreign_datasets_that_fail_are_named_with_the_sample(foreign: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(batches_of(foreign, keys=Keys(0), name="valid").epoch(0))
