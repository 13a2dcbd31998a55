from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data.splits import checked_indices, split_sizes
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.randomness import Keys


def numbers(length: int) -> data.Dataset[torch.Tensor]:
    return data.from_tensors(torch.arange(length))


@given(length=st.integers(1, 300), weights=st.lists(st.integers(1, 20), min_size=1, max_size=5), seed=st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=80)
def test_a_split_has_every_sample_exactly_once(length: int, weights: list[int], seed: int) -> None:
    fractions = [weight / sum(weights) for weight in weights]
    if min(weights) * length < sum(weights):  # less than one sample a part
        return
    parts = numbers(length).split(*fractions, seed=seed)
    assert sorted(int(value) for part in parts for value in part) == list(range(length))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * length) < 1 + 1e-6


@pytest.mark.parametrize(
    ("length", "parts", "sizes"),
    [
        (10, (0.5, 0.5), [5, 5]),
        (11, (0.5, 0.5), [6, 5]),
        (1000, (0.7, 0.15, 0.15), [700, 150, 150]),
        (100, (0.29, 0.71), [29, 71]),
        (10, (1 / 3, 1 / 3, 1 / 3), [4, 3, 3]),
        (10, (7, 2, 1), [7, 2, 1]),
        (10, (1.0,), [10]),
        (10, (1,), [10]),
        (10, (np.int64(4), np.int64(6)), [4, 6]),
    ],
)
def test_sizes_are_rounded_by_largest_remainder(length: int, parts: tuple[Any, ...], sizes: list[int]) -> None:
    assert split_sizes(length, parts) == sizes


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ((), ArgumentTypeError, "split needs parts"),
        ((0.5, 0.4), ArgumentValueError, r"must sum to 1, got 0\.5 \+ 0\.4 = 0\.9.*Add a part for the rest"),
        ((3, 3), ArgumentValueError, r"must sum to the length, 10, got 3 \+ 3 = 6"),
        ((0.99, 0.01), ArgumentValueError, r"part 1 of split \(0\.01\) of 10 samples would be empty. Use fewer parts"),
        ((0.5, 1), ArgumentTypeError, r"mix fractions and counts: 1 \(int\)"),
        ((1.5, -0.5), ArgumentValueError, r"above 0, got -0\.5"),
        ((float("nan"), 0.5), ArgumentValueError, "finite"),
        (("0.5", "0.5"), ArgumentTypeError, "must be a number above 0"),
        ((True, False), ArgumentTypeError, "mix fractions and counts"),
        ((0, 10), ArgumentValueError, "at least 1"),
        ((-1, 11), ArgumentValueError, "at least 1"),
    ],
)
def test_impossible_parts_are_named(parts: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbers(10).split(*parts)


def test_splits_differ_by_seed_and_agree_by_seed() -> None:
    first, again, other = (numbers(100).split(0.5, 0.5, seed=seed)[0] for seed in (0, 0, 1))
    assert [int(value) for value in first] == [int(value) for value in again]
    assert [int(value) for value in first] != [int(value) for value in other]


@given(length=st.integers(2, 60), folds=st.integers(2, 8))
@settings(deadline=None, max_examples=40)
def test_kfold_validates_every_sample_exactly_once(length: int, folds: int) -> None:
    if folds > length:
        with pytest.raises(ArgumentValueError, match=f"at most the number of samples, {length}, got {folds}"):
            numbers(length).kfold(folds)
        return
    pairs = numbers(length).kfold(folds, seed=3)
    assert sorted(int(value) for _, valid in pairs for value in valid) == list(range(length))
    for train, valid in pairs:
        assert sorted(int(value) for part in (train, valid) for value in part) == list(range(length))
    sizes = [len(valid) for _, valid in pairs]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([0, 10], ArgumentValueError, "from -10 to 9, got 10"),
        ([-11], ArgumentValueError, "got -11"),
        ([0.5], ArgumentTypeError, r"shape \(1,\) of torch.float32"),
        ([[0]], ArgumentTypeError, r"shape \(1, 1\)"),
        (torch.tensor([True] * 10), ArgumentTypeError, "nonzero"),
        ("ab", ArgumentTypeError, "sequence of ints"),
        (None, ArgumentTypeError, "sequence of ints"),
        (3, ArgumentTypeError, r"shape \(\)"),
    ],
)
def test_impossible_indices_are_named(indices: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbers(10).select(indices)


def test_indices_may_be_empty_or_of_any_whole_dtype() -> None:
    assert checked_indices([], 5, negative=False).dtype == torch.int64
    assert checked_indices(np.array([1, 2], dtype=np.uint8), 5, negative=False).tolist() == [1, 2]
    assert checked_indices([-1], 5, negative=True).tolist() == [4]


def test_ten_million_rows_are_split_and_shuffled_without_python_a_row() -> None:
    x = torch.zeros(1, 32).expand(10_000_000, 32)  # no memory of its own: a copy of it would take 1.3 GB
    begin = time.process_time()
    train, _ = data.from_tensors(x).split(0.9, 0.1)
    batch = next(data.batches_of(train, keys=Keys(0), name="train", batch_size=256).epoch(0))
    assert batch.shape == (256, 32)
    assert time.process_time() - begin < 15  # ten million Python calls alone would take longer
