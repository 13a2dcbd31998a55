"""Splits that do not leak: shares of classes, whole groups, order in time; and who may learn from which part."""

from __future__ import annotations

import datetime
import warnings
from collections import Counter
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import Dataset
from torchflow.data.partition import allotted
from torchflow.data.splits import split_sizes
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, LeakError

CODES = st.lists(st.integers(0, 4), min_size=8, max_size=120)
WEIGHTS = st.lists(st.integers(1, 9), min_size=2, max_size=4)
SEEDS = st.integers(0, 2**63 - 1)


def numbered(codes: list[Any]) -> Dataset[Any]:
    """Samples (place, code)."""
    return data.from_tensors(torch.arange(len(codes)), torch.tensor(codes))


def places(part: Dataset[Any]) -> list[int]:
    return [int(place) for place, *_ in part]


def fractions(weights: list[int]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


@settings(deadline=None, max_examples=100)
@given(codes=CODES, weights=WEIGHTS, seed=SEEDS)
def test_every_part_has_its_share_of_every_class_within_one_sample(codes: list[int], weights: list[int], seed: int) -> None:
    """Fails without the way between parts, by which single samples are passed on."""
    shares = fractions(weights)
    try:
        parts = numbered(codes).split(*shares, seed=seed, stratify=1)
    except ArgumentValueError:
        assert min(shares) * len(codes) < 2  # a part would be empty
        return
    assert sorted(place for part in parts for place in places(part)) == list(range(len(codes)))
    assert [len(part) for part in parts] == split_sizes(len(codes), shares)
    for part, share in zip(parts, shares, strict=True):
        found = Counter(codes[place] for place in places(part))
        for code, count in Counter(codes).items():
            assert abs(found[code] - share * count) < 1


@settings(deadline=None, max_examples=200)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), weights=WEIGHTS)
def test_rounding_keeps_the_sums_of_rows_and_columns(counts: list[int], weights: list[int]) -> None:
    """Fails if leftover places are given without regard to the parts' sizes."""
    total = sum(counts)
    if total < sum(weights):
        return
    sizes = [weight * total // sum(weights) for weight in weights]
    sizes[0] += total - sum(sizes)
    made = allotted(counts, [size / total for size in sizes], sizes)
    assert [sum(row) for row in made] == counts
    for row, count in zip(made, counts, strict=True):
        assert all(abs(cell - count * size / total) < 1 for cell, size in zip(row, sizes, strict=True))
    assert [sum(row[part] for row in made) for part in range(len(sizes))] == sizes  # each size is its own exact share


@settings(deadline=None, max_examples=100)
@given(codes=CODES, weights=WEIGHTS, seed=SEEDS)
def test_no_group_is_in_two_parts(codes: list[int], weights: list[int], seed: int) -> None:
    groups = Counter(codes)
    if len(groups) < len(weights):
        with pytest.raises(
            ArgumentValueError, match=f"{len(weights)} parts need at least as many groups, got {len(groups)}|would be empty"
        ):
            numbered(codes).split(*fractions(weights), group=1)
        return
    try:
        parts = numbered(codes).split(*fractions(weights), seed=seed, group=1)
    except ArgumentValueError as error:
        assert "would be empty" in str(error)  # noqa: PT017  (so small a fraction that not even one sample is its share)
        return
    assert sorted(place for part in parts for place in places(part)) == list(range(len(codes)))
    owners = [{codes[place] for place in places(part)} for part in parts]
    assert sum(map(len, owners)) == len(groups)
    for part, share in zip(parts, fractions(weights), strict=True):
        assert len(part) <= share * len(codes) + max(groups.values()) + 1


@settings(deadline=None, max_examples=100)
@given(times=st.lists(st.integers(0, 30), min_size=20, max_size=120), weights=WEIGHTS, gap=st.integers(0, 3))
def test_a_part_is_later_than_the_one_before_and_no_time_is_in_two(times: list[int], weights: list[int], gap: int) -> None:
    try:
        parts = numbered(times).split(*fractions(weights), time="y", gap=gap)
    except ArgumentValueError as error:
        assert "would be empty" in str(error)  # noqa: PT017  (many samples of one time, or a small part)
        return
    held = [[times[place] for place in places(part)] for part in parts]
    assert all(part == sorted(part) for part in held)
    for before, after in pairwise(held):
        assert before[-1] < after[0]
    if not gap:
        assert sum(map(len, held)) == len(times)


def test_samples_in_order_are_cut_with_gaps_between() -> None:
    train, valid, test = numbered([0] * 100).split(0.5, 0.25, 0.25, time=True, gap=4)
    assert places(train) == list(range(46))
    assert places(valid) == list(range(50, 73))
    assert places(test) == list(range(77, 100))
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=day) for day in (3, 1, 2, 0)]
    early, late = numbered([0] * 4).split(2, 2, time=days)
    assert (places(early), places(late)) == ([3, 1], [2, 0])


@settings(deadline=None, max_examples=60)
@given(codes=CODES, folds=st.integers(2, 5), seed=SEEDS, rule=st.sampled_from(["stratify", "group"]))
def test_every_sample_is_validated_once_by_class_or_by_group(codes: list[int], folds: int, seed: int, rule: str) -> None:
    groups = Counter(codes)
    if rule == "group" and len(groups) < folds:
        return
    if rule == "stratify" and max(groups.values()) < folds:
        with pytest.raises(ArgumentValueError, match="largest class"):
            numbered(codes).kfold(folds, seed, stratify=1)
        return
    scarce = rule == "stratify" and min(groups.values()) < folds
    with pytest.warns(UserWarning, match="smallest class") if scarce else nullcontext():
        pairs = numbered(codes).kfold(folds, seed, **{rule: 1})
    assert sorted(place for _, valid in pairs for place in places(valid)) == list(range(len(codes)))
    for train, valid in pairs:
        assert sorted(places(train) + places(valid)) == list(range(len(codes)))
        inside = Counter(codes[place] for place in places(valid))
        if rule == "group":
            assert not set(inside) & {codes[place] for place in places(train)}
        else:
            assert all(abs(inside[code] - count / folds) < 1 for code, count in groups.items())
            assert abs(len(valid) - len(codes) / folds) < 1


@pytest.mark.parametrize(("few", "remedy"), [(1, "Give it more samples, or leave it out."), (3, "Use at most 3 folds, or give it")])
def test_a_class_of_fewer_samples_than_folds_is_warned_of(few: int, remedy: str) -> None:
    """As scikit-learn's StratifiedKFold does, which refuses where every class is too small."""
    points = numbered([0] * 10 + [1] * few)
    with pytest.warns(
        UserWarning, match=rf"folds=5 is more than the smallest class has samples, {few}: some .* {remedy}"
    ) as caught:
        pairs = points.kfold(5, stratify=1)
    assert caught[0].filename == __file__
    assert sum(any(place >= 10 for place in places(valid)) for _, valid in pairs) == few
    with pytest.raises(
        ArgumentValueError, match=r"samples of the largest class, 10, where folds are stratified, got 11\. Use fewer folds"
    ):
        points.kfold(11, stratify=1)


def test_as_many_folds_as_every_class_has_samples_is_fine() -> None:
    for _, valid in numbered([0] * 10 + [1] * 5).kfold(5, stratify=1):  # warnings are errors
        assert sum(place >= 10 for place in places(valid)) == 1


@pytest.mark.parametrize("rule", ["stratify", "group"])
def test_true_does_not_say_by_what_to_split(rule: str) -> None:
    for split in (
        lambda: numbered([0, 1] * 4).kfold(2, **{rule: True}),
        lambda: numbered([0, 1] * 4).split(0.5, 0.5, **{rule: True}),
    ):
        with pytest.raises(
            ArgumentTypeError, match=rf"{rule}=True does not say by what\. Name a part .*{rule}=1 is the second of a pair"
        ):
            split()


def test_folds_in_time_train_on_what_comes_before() -> None:
    pairs = numbered(list(range(20))[::-1]).kfold(4, time="y", gap=1)
    expected = [(list(range(19, 19 - 4 * fold + 1, -1)), list(range(19 - 4 * fold, 15 - 4 * fold, -1))) for fold in range(1, 5)]
    assert [(places(train), places(valid)) for train, valid in pairs] == expected


def test_what_is_split_by_is_found_wherever_it_is() -> None:
    kinds = ["a", "b"] * 20
    x = torch.arange(80.0).reshape(40, 2)
    x[:, 1] = torch.arange(40) // 4
    frame = pd.DataFrame({"n": range(40), "site": [place // 4 for place in range(40)], "y": 0.5})
    words = [{"place": place, "kind": kind, "when": None} for place, kind in enumerate(kinds)]
    cases: list[tuple[Dataset[Any], Any]] = [
        (data.from_tensors({"place": x, "kind": torch.tensor([kind == "a" for kind in kinds])}), "kind"),
        (data.from_iterable(words), "kind"),
        (data.from_iterable(words).map(lambda sample: sample), "kind"),
        (data.from_iterable(words).cache().filter(lambda sample: True).skip(4), "kind"),
        (numbered(list(range(40))).concat(numbered(list(range(40)))), [0, 1] * 40),
        (numbered(list(range(40))), pd.Series(kinds)),
        (numbered(list(range(40))), np.array(kinds)),
        (numbered(list(range(40))), torch.tensor([[0], [1]] * 20)),
    ]
    for dataset, by in cases:
        train, test = dataset.split(0.75, 0.25, stratify=by)
        assert len(train) == 3 * len(test)
    for target, side, place in [("y", 0, 1), ("site", 1, 0)]:
        train, test = data.from_frame(frame, target=target).split(0.5, 0.5, group="site")
        sites = [{int(sample[side][place]) for sample in part} for part in (train, test)]
        assert not sites[0] & sites[1]


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "two rules": ({"stratify": 1, "group": 1}, ArgumentTypeError, "stratify and group exclude each other"),
    "a gap in chance": ({"gap": 2}, ArgumentTypeError, "gap= leaves samples out between parts in time"),
    "a negative gap": ({"gap": -2, "time": True}, ArgumentValueError, "gap must be an int of at least 0"),
    "no such part": ({"stratify": "kind"}, ArgumentValueError, "stratify='kind' names no part of a sample, which has 'x', 'y'"),
    "no such position": ({"group": 7}, ArgumentValueError, "group=7 names no part of a sample"),
    "an object": ({"group": object()}, ArgumentTypeError, "group must be the name of a part of a sample"),
    "too few values": ({"group": [1, 2]}, ArgumentValueError, "group must have a value for each of 10 samples, got 2"),
    "gaps in values": (
        {"group": [None] * 10},
        DataError,
        "group needs a number, a text or a date of every sample; sample 0 has None",
    ),
    "not a number": ({"time": [float("nan")] * 10}, DataError, "time needs a number.*sample 0 has nan"),
    "mixed values": ({"time": [1, "a"] * 5}, DataError, "time has values that have no order"),
    "one time": ({"time": [1] * 10}, ArgumentValueError, "samples of one time stay together"),
    "a wide gap": ({"time": True, "gap": 10}, ArgumentValueError, "would be empty"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_rules_are_refused(wrong: str) -> None:
    options, error, message = WRONG[wrong]
    with pytest.raises(error, match=message):
        numbered(list(range(10))).split(0.5, 0.5, **options)


def test_a_part_with_several_numbers_is_no_class() -> None:
    rows = data.from_tensors(torch.zeros(10, 3), torch.zeros(10))
    with pytest.raises(ArgumentValueError, match=r"stratify=0 names a part of shape \(3,\)"):
        rows.split(0.5, 0.5, stratify=0)
    with pytest.raises(ArgumentValueError, match=r"stratify=0 names a part of shape \(3,\)"):
        rows.map(lambda sample: sample).split(0.5, 0.5, stratify=0)
    with pytest.raises(ArgumentValueError, match="gap must be below the size of the first block, 2, got 3"):
        numbered(list(range(10))).kfold(4, time=True, gap=3)


# Who may learn from what


def fit(dataset: Dataset[Any]) -> data.Standardized:
    return data.Standardize(1).fit(dataset)


def test_encoders_learn_from_the_first_part_alone() -> None:
    train, valid, test = numbered(list(range(30))).split(0.6, 0.2, 0.2)
    fit(train)
    fit(train.map(lambda sample: sample).take(5))
    for held_out in (valid, test, valid.skip(1), test.map(lambda sample: sample), train.concat(valid), test.split(0.5, 0.5)[0]):
        with pytest.raises(
            LeakError, match=r"Standardize\.fit was given part [12] of 3 of .*split.*Encoders learn from the first part"
        ):
            fit(held_out)
    with pytest.raises(LeakError, match=r"part 1 of 3 of from_tensors\.split, a validation part"):
        fit(valid)
    with pytest.raises(LeakError, match=r"part 1 of 2 of from_tensors\.kfold, a validation part"):
        fit(numbered(list(range(30))).kfold(3)[0][1])


def test_encoders_do_not_learn_from_the_whole_of_what_was_split() -> None:
    whole = numbered(list(range(30)))
    fit(whole)  # nobody knows of a split
    whole = numbered(list(range(30)))
    train, _ = whole.map(lambda sample: sample).split(0.5, 0.5)
    fit(train)
    for everything in (whole, whole.take(20), whole.map(lambda sample: sample)):
        with pytest.raises(LeakError, match=r"all of from_tensors, which was split before"):
            fit(everything)


def test_it_can_be_said_that_it_is_meant() -> None:
    whole = numbered(list(range(30)))
    train, valid = whole.split(0.5, 0.5)
    assert torch.equal(fit(whole.as_training()).mean, torch.tensor(14.5, dtype=torch.float64))
    fit(valid.as_training().map(lambda sample: sample))
    fit(train.concat(valid).as_training())
    assert places(valid.as_training()) == places(valid)


def test_a_split_of_what_an_encoder_has_learnt_from_is_warned_of() -> None:
    whole = numbered(list(range(30)))
    scaled = whole.map_batch(fit(whole))
    with pytest.warns(UserWarning, match=r"Standardize was fitted on all of from_tensors, which split divides now"):
        scaled.split(0.5, 0.5)
    with pytest.warns(UserWarning, match=r"which kfold divides now"):
        whole.kfold(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = numbered(list(range(30)))
        other.map_batch(fit(whole.as_training())).split(0.5, 0.5)  # learnt elsewhere


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(12, 60),
    rule=st.sampled_from([{}, {"stratify": "y"}, {"group": "y"}, {"time": True}]),
    seed=SEEDS,
    changed=st.integers(0, 10**6),
)
def test_no_row_outside_the_training_part_changes_an_encoder(rows: int, rule: dict[str, Any], seed: int, changed: int) -> None:
    """Fails if anything is learnt from more than the training part: from the dataset below a split, say."""
    x, y = torch.arange(rows * 2.0).reshape(rows, 2), torch.arange(rows) % 5

    def learnt() -> tuple[data.Standardized, data.Categorized, list[int]]:
        train, test = data.from_tensors({"x": x, "y": y, "place": torch.arange(rows)}).split(0.6, 0.4, seed=seed, **rule)
        held_out = [int(sample["place"]) for sample in test]
        return data.Standardize("x").fit(train), data.Categories("y").fit(train), held_out

    scale, kinds, held_out = learnt()
    x[held_out[changed % len(held_out)]] = 1e9
    again, kinds_again, _ = learnt()
    assert torch.equal(scale.mean, again.mean)
    assert torch.equal(scale.std, again.std)
    assert kinds == kinds_again
