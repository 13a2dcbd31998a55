"""Overlaps between splits that were put there on purpose: all of them are found, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import Dataset, Overlap, check_splits
from torchflow.data.leaks import _ones
from torchflow.data.signatures import rounded
from torchflow.errors import ArgumentTypeError, ArgumentValueError, LeakError

SEEDS = st.integers(0, 2**31 - 1)


def pairs(report: data.SplitReport, kind: str) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    return {(overlap.first, overlap.second) for overlap in report.of_kind(kind)}


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, moved=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 19)), max_size=6, unique_by=lambda pair: pair[1]))
def test_every_row_that_is_put_into_another_split_is_found(seed: int, moved: list[tuple[int, int]]) -> None:
    """Fails if a hash leaves anything out, or if one twin hides another."""
    generator = torch.Generator().manual_seed(seed)
    x, other = torch.randn(40, 9, generator=generator), torch.randn(20, 9, generator=generator)
    for source, place in moved:
        other[place] = x[source]
    train, test = data.from_tensors(x, torch.zeros(40)), data.from_tensors(other, torch.ones(20))  # the label differs
    report = check_splits(train, test, raises=False)
    assert pairs(report, "exact") == {(("train", source), ("test", place)) for source, place in moved}
    assert report.of_kind("near") == ()
    assert report.clean == (not moved)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, moved=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 9)), max_size=4, unique_by=lambda pair: pair[1]))
def test_every_picture_that_was_only_saved_anew_is_found(seed: int, moved: list[tuple[int, int]]) -> None:
    generator = torch.Generator().manual_seed(seed)

    def pictures(count: int) -> torch.Tensor:
        coarse = torch.rand(count, 3, 6, 6, generator=generator)
        return torch.nn.functional.interpolate(coarse, (24, 32), mode="bicubic").clamp(0, 1)

    one, other = pictures(20), pictures(10)
    for source, place in moved:
        noise = torch.randn(3, 24, 32, generator=generator) * 0.004
        other[place] = ((one[source] * 0.9 + 0.05 + noise) * 255).round() / 255  # paler, noisy, in eight bits
    train = data.from_tensors((one * 255).round().type(torch.uint8))
    report = check_splits(train, data.from_tensors(other), raises=False)
    assert pairs(report, "near") == {(("train", source), ("test", place)) for source, place in moved}
    assert report.of_kind("exact") == ()


def test_texts_that_differ_in_case_blanks_or_a_word_are_near() -> None:
    text = "the quick brown fox jumps over the lazy dog and runs into the deep dark wood, where nobody has ever been before today"
    other = "an entirely different sentence about trains, stations and the people who wait there in the morning, every morning"
    train = data.from_iterable([other, text, "short", "a b c d"])
    test = data.from_iterable(
        [text.replace("lazy", "tired"), f"  {text.upper()}\n", text, text[: len(text) // 2], "short", "A  b c d"]
    )
    report = check_splits(train, test, raises=False)
    assert pairs(report, "exact") == {(("train", 1), ("test", 2)), (("train", 2), ("test", 4))}
    assert pairs(report, "near") == {(("train", 1), ("test", 0)), (("train", 1), ("test", 1)), (("train", 3), ("test", 5))}


def test_numbers_are_near_that_agree_in_three_digits() -> None:
    row = torch.tensor([1.2345, -0.000_123_4, 1e20, 0.0, 77.7, 3.0, -8.0, 5.5e-30])
    noisy = row * torch.tensor([1.0001, 1, 1, 1, 1, 1, 1, 1])
    other = row * torch.tensor([1.1, 1, 1, 1, 1, 1, 1, 1])
    report = check_splits(data.from_tensors(row[None]), data.from_tensors(torch.stack((other, noisy, row))), raises=False)
    assert pairs(report, "near") == {(("train", 0), ("test", 1))}
    assert pairs(report, "exact") == {(("train", 0), ("test", 2))}
    few = data.from_tensors(row[None, :4])
    assert check_splits(few, data.from_tensors(noisy[None, :4])).clean  # so few numbers agree by chance
    series = torch.randn(2, 1000).cumsum(1)
    assert check_splits(data.from_tensors(series[:1]), data.from_tensors(series[:1] + 1e-6), raises=False).of_kind("near")
    assert check_splits(data.from_tensors(series[:1]), data.from_tensors(series[1:])).clean


@settings(deadline=None, max_examples=100)
@given(value=st.floats(width=32))
def test_rounding_keeps_three_digits(value: float) -> None:
    (made,) = rounded(np.array([value]))
    assert made == pytest.approx(value, rel=0.0051, nan_ok=True) or (abs(value) < 1e-37 and abs(made) < 1e-37)


@settings(deadline=None, max_examples=50)
@given(words=st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_bits_are_counted(words: list[int]) -> None:
    assert _ones(np.array(words, dtype=np.uint64)).tolist() == [word.bit_count() for word in words]


def test_shared_groups_are_found_by_name_and_by_list() -> None:
    sites = torch.arange(12) // 3
    whole = data.from_tensors({"x": torch.rand(12, 3), "site": sites})
    train, test = whole.split(0.5, 0.5, seed=1)
    shared = {int(sample["site"]) for sample in train} & {int(sample["site"]) for sample in test}
    found = check_splits(train, test, group="site", raises=False).of_kind("group")
    assert {overlap.value for overlap in found} == shared
    assert all(int(train[overlap.first[1]]["site"]) == overlap.value == int(test[overlap.second[1]]["site"]) for overlap in found)
    assert check_splits(*whole.split(0.5, 0.5, group="site"), group="site").clean
    lists = [["a", "b"], ["c"], ["b", "c"]]
    rows = [data.from_tensors(torch.rand(len(names), 3)) for names in lists]
    report = check_splits(*rows, group=lists, raises=False)
    assert report.overlaps == (Overlap("group", ("train", 1), ("test", 0), "b"), Overlap("group", ("valid", 0), ("test", 1), "c"))


def test_the_report_says_what_was_found_and_is_raised() -> None:
    x = torch.arange(60.0).reshape(30, 2)
    train, valid, test = (data.from_tensors(x[part]) for part in ([*range(20)], [*range(15, 25)], [29, 0]))
    with pytest.raises(LeakError) as caught:
        check_splits(train, valid, test)
    assert str(caught.value) == (
        "the splits (train 20, valid 10, test 2) share samples:\n"
        "  5 exact duplicates in train and valid: samples 15 and 0, 16 and 1, 17 and 2, ...\n"
        "  1 exact duplicates in train and test: samples 0 and 1\n"
        "Leave them out of one split, or split by group= what they have in common."
    )
    clean = check_splits(train, test.take(1), names=["a", "b"])
    assert str(clean) == "nothing is shared between the splits (a 20, b 1)."
    twice = data.from_tensors(x[[0, 0, 1]])
    assert len(check_splits(twice, twice, raises=False).overlaps) == 3  # the first twin of each, not every pair


def test_only_inputs_are_compared_and_by_all_that_they_hold() -> None:
    def one(**parts: Any) -> Dataset[Any]:
        return data.from_iterable([parts])

    assert not check_splits(one(a=1, b="x"), one(a=1, b="x"), raises=False).clean
    for other in ({"a": 2, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1.0, "b": "x"}, {"a": None, "b": "x"}):
        assert check_splits(one(a=1, b="x"), one(**other)).clean
    zero = torch.zeros(1, 3)
    assert check_splits(data.from_tensors(zero), data.from_tensors(zero.double()), near=False).clean
    assert check_splits(data.from_tensors(zero), data.from_tensors(zero.reshape(1, 3, 1)), near=False).clean


def test_wrong_arguments_are_refused() -> None:
    rows = data.from_tensors(torch.rand(4, 3))
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((rows,), {}, ArgumentValueError, "at least two splits, got 1"),
        ((rows, [1, 2]), {}, ArgumentTypeError, "check_splits takes datasets, got"),
        ((rows, rows), {"names": ["a"]}, ArgumentValueError, "names must give each of 2 splits a name of its own"),
        ((rows, rows), {"names": ["a", "a"]}, ArgumentValueError, "a name of its own"),
        ((rows, rows), {"near": 1}, ArgumentTypeError, "near must be True or False"),
        ((rows, rows), {"group": [[1, 2, 3, 4]]}, ArgumentValueError, "a list of values for each of 2 splits, got 1"),
    ]
    for splits, options, error, message in wrong:
        with pytest.raises(error, match=message):
            check_splits(*splits, **options)
