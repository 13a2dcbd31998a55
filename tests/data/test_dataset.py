from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torchflow import data
from torchflow.data import Dataset
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, RaggedBatchError

Pair = tuple[Dataset[Any], list[int]]


def numbers(length: int, start: int = 0) -> Dataset[Any]:
    return data.from_tensors(torch.arange(start, start + length))


def plain(dataset: Dataset[Any]) -> list[int]:
    return [int(sample) for sample in dataset]


def even(value: Any) -> bool:
    return int(value) % 2 == 0


def twice(value: Any) -> Any:
    return value * 2


def step(pair: Pair, word: str, number: int) -> Pair:
    """One method, and the same on a list."""
    dataset, items = pair
    place = number % (len(items) + 1)
    picked = [(number * i) % len(items) for i in range(number % 7)] if items else []
    steps: dict[str, Callable[[], Pair]] = {
        "map": lambda: (dataset.map(twice), [2 * item for item in items]),
        "map_batch": lambda: (dataset.map_batch(lambda batch: batch + 1), [item + 1 for item in items]),
        "filter": lambda: (dataset.filter(even), [item for item in items if item % 2 == 0]),
        "take": lambda: (dataset.take(place), items[:place]),
        "skip": lambda: (dataset.skip(place), items[place:]),
        "select": lambda: (dataset.select(picked), [items[i] for i in picked]),
        "concat": lambda: (dataset.concat(numbers(3), dataset), [*items, 0, 1, 2, *items]),
        "repeat": lambda: (dataset.repeat(2), items * 2),
        "cache": lambda: (dataset.cache(), items),
    }
    return steps[word]()


WORDS = ["map", "map_batch", "filter", "take", "skip", "select", "concat", "repeat", "cache"]


@given(length=st.integers(1, 12), steps=st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 50)), max_size=5))
@settings(deadline=None, max_examples=120)
def test_the_algebra_is_that_of_lists(length: int, steps: list[tuple[str, int]]) -> None:
    pair: Pair = (numbers(length), list(range(length)))
    for word, number in steps:
        pair = step(pair, word, number)
    dataset, items = pair
    assert len(dataset) == len(items)
    assert plain(dataset) == items
    if items:
        assert dataset.take_batch(range(len(items))).tolist() == items
        backwards = list(range(len(items)))[::-1]
        assert dataset.take_batch(backwards).tolist() == items[::-1]
        assert [int(dataset[i]) for i in range(-len(items), len(items))] == items * 2


def test_zip_gives_tuples_in_step() -> None:
    zipped = numbers(4).zip(numbers(4, 10), numbers(4, 20).map(twice))
    assert [tuple(map(int, sample)) for sample in zipped] == [(i, 10 + i, 40 + 2 * i) for i in range(4)]
    assert [column.tolist() for column in zipped.take_batch([3, 0])] == [[3, 0], [13, 10], [46, 40]]


def test_zip_of_different_lengths_is_refused_with_the_remedy() -> None:
    with pytest.raises(ArgumentValueError, match=r"datasets of one length, got 4, 5. Use take\(4\)"):
        numbers(4).zip(numbers(5))


@pytest.mark.parametrize("verb", ["zip", "concat"])
def test_only_datasets_are_combined(verb: str) -> None:
    with pytest.raises(
        ArgumentTypeError, match=rf"{verb} takes datasets, got \[1\] \(list\). Wrap it with torchflow.data.as_dataset"
    ):
        getattr(numbers(1), verb)([1])


def test_samples_of_columns_keep_the_structure_they_were_given() -> None:
    x, y = torch.randn(5, 2), torch.arange(5)
    assert torch.equal(data.from_tensors(x)[1], x[1])
    assert isinstance(data.from_tensors(x, y)[1], tuple)
    assert torch.equal(data.from_tensors({"image": x, "label": (y, y)})[2]["label"][1], y[2])


def test_batches_and_samples_are_copies_that_nobody_shares() -> None:
    x = torch.zeros(4, 2)
    for dataset in (
        data.from_tensors(x),
        data.from_tensors(x).take(3),
        data.from_iterable([x[0], x[1]]),
        data.from_tensors(x).cache(),
    ):
        dataset.take_batch([0, 1]).add_(1)
        dataset[0].add_(1)
        dataset.take_samples([1])[0].add_(1)
        assert float(x.sum()) == 0
        assert float(dataset[0].sum()) == float(dataset[1].sum()) == 0


def test_a_batch_has_the_same_memory_alignment_wherever_its_rows_came_from() -> None:
    dataset = data.from_tensors(torch.randn(100, 3)).skip(1)
    assert {dataset.take_batch([i, i + 1]).data_ptr() % 64 for i in range(0, 50, 7)} == {0}
    assert {sample.data_ptr() % 64 for sample in dataset.take_samples(range(9))} == {0}


def test_a_dataset_says_what_it_is() -> None:
    dataset = numbers(10).map(twice).take(3)
    assert repr(dataset) == "Dataset(3 samples, from_tensors.map.take)"
    assert (
        repr(numbers(2).zip(numbers(2)).repeat(2))
        == "Dataset(4 samples, zip(from_tensors, from_tensors).repeat(2); x: int64, x_2: int64)"
    )
    assert repr(numbers(2).concat(numbers(1)).cache()) == "Dataset(3 samples, concat(from_tensors, from_tensors).cache; x: int64)"
    assert repr(numbers(5).filter(even).windows(2).map_batch(twice)).endswith("filter.windows(2, 1, 0).map_batch)")


@pytest.mark.parametrize("index", [10, -11, 2**40])
def test_an_index_out_of_range_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match="out of range for a dataset of 10 samples"):
        numbers(10)[index]


@pytest.mark.parametrize("index", [slice(0, 2), 1.0, "0", None])
def test_an_index_that_is_no_int_is_refused_with_the_remedy(index: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"an index must be an int.*Use dataset.select"):
        numbers(10)[index]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: d.map(3), ArgumentTypeError, "function must be a function, got 3"),
        (lambda d: d.map_batch(data.Standardize()), ArgumentTypeError, r"fitted before it is mapped: Standardize\(\).fit"),
        (lambda d: d.map_random(None), ArgumentTypeError, "function must be a function"),
        (lambda d: d.map_random(twice, name=3), ArgumentTypeError, "name must be text or None, got 3"),
        (lambda d: d.filter("x"), ArgumentTypeError, "predicate must be a function"),
        (lambda d: d.take(-1), ArgumentValueError, "count must be an int of at least 0"),
        (lambda d: d.skip(1.5), ArgumentTypeError, "count must be an int of at least 0"),
        (lambda d: d.take(True), ArgumentTypeError, "count must be an int"),
        (lambda d: d.repeat(0), ArgumentValueError, "times must be an int of at least 1"),
        (lambda d: d.windows(0), ArgumentValueError, "length must be an int of at least 1"),
        (lambda d: d.windows(2, stride=0), ArgumentValueError, "stride must be"),
        (lambda d: d.windows(8, horizon=3), ArgumentValueError, r"8 \+ 3 samples does not fit into 10 samples"),
        (lambda d: d.kfold(1), ArgumentValueError, "folds must be an int of at least 2"),
        (lambda d: d.kfold("5"), ArgumentTypeError, "folds must be an int"),
        (lambda d: d.split(0.5, 0.5, seed=-1), ArgumentValueError, "seed must be an int of at least 0"),
        (lambda d: d.split(0.5, 0.5, seed="a"), ArgumentTypeError, "seed must be an int"),
        (lambda d: d.take_batch([10]), ArgumentValueError, "from 0 to 9, got 10"),
        (lambda d: d.take_batch([-1]), ArgumentValueError, "from 0 to 9, got -1"),
        (lambda d: d.take_samples([0.5]), ArgumentTypeError, "whole numbers in one dimension"),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[Dataset[Any]], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(numbers(10))


def test_concat_of_columns_is_joined_without_python_a_sample() -> None:
    first = data.from_tensors(torch.arange(5.0), torch.arange(5))
    joined = first.concat(data.from_tensors(torch.arange(5.0, 9.0), torch.arange(5, 9)))
    assert joined.source.columnar
    x, y = joined.take_batch([8, 0, 6, 1, 1])
    assert x.tolist() == [8, 0, 6, 1, 1]
    assert y.tolist() == [8, 0, 6, 1, 1]


def test_concat_of_columns_that_do_not_stack_is_refused() -> None:
    joined = data.from_tensors(torch.zeros(3, 2)).concat(data.from_tensors(torch.zeros(3, 4)))
    assert joined.take_batch([0, 1]).shape == (2, 2)
    with pytest.raises(
        RaggedBatchError, match=r"concat\(from_tensors, from_tensors\) cannot be stacked.*\(2,\).*\(4,\).*pad or crop"
    ):
        joined.take_batch([0, 3])


@pytest.mark.parametrize(("length", "stride", "horizon"), [(3, 1, 0), (3, 2, 0), (2, 3, 1), (10, 1, 0), (4, 5, 2)])
def test_windows_are_the_slices_of_the_series(length: int, stride: int, horizon: int) -> None:
    series = list(range(10))
    windows = numbers(10).windows(length, stride, horizon)
    starts = range(0, 10 - length - horizon + 1, stride)
    assert len(windows) == len(starts)
    for i, start in enumerate(starts):
        past, future = series[start : start + length], series[start + length : start + length + horizon]
        found = windows[i]
        if horizon:
            assert ([part.tolist() for part in found]) == [past, future]
        else:
            assert found.tolist() == past
    batch = windows.take_batch(range(len(windows)))
    assert (batch[0] if horizon else batch).shape == (len(windows), length)


def test_windows_of_text_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"windows stack tensors along time, and a sample holds str. Encode it in a map"):
        data.from_iterable([("a", 1), ("b", 2)]).windows(2).take_batch([0])


def test_iteration_is_lazy_where_python_makes_the_samples() -> None:
    asked: list[int] = []

    def make(index: int) -> int:
        asked.append(index)
        return index

    next(iter(data.from_function(make, 1000)))
    assert asked == [0]


def test_the_schema_follows_choices_and_ends_at_changes() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [1, 2, 3, 4]})
    dataset = data.from_frame(frame, target="b")
    schema = data.Schema.of_columns(("a",), ("b",))
    everything = (
        dataset,
        dataset.take(2),
        dataset.split(0.5, 0.5)[0],
        dataset.repeat(2),
        dataset.cache(),
        dataset.filter(lambda _: True),
    )
    assert all(chosen.schema == schema for chosen in everything)
    assert dataset.map(lambda sample: sample[0]).schema is None


def test_a_sample_is_a_tensor_of_its_own() -> None:
    sample = data.from_tensors(torch.arange(6).reshape(3, 2))[2]
    assert isinstance(sample, Tensor)
    assert sample.tolist() == [4, 5]


def test_an_empty_dataset_has_no_samples_whatever_is_mapped_over_it() -> None:
    empty = data.from_iterable([1, 2]).take(0).map_batch(twice)
    assert list(empty) == list(empty.filter(even)) == list(empty.cache()) == list(empty.map(twice)) == []
