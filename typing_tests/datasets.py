"""Datasets: the type of a sample, from the factories through the algebra."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, assert_type

import numpy as np
import torch
from torch import Tensor

from torchflow import data
from torchflow.data import Dataset, FittedEncoder, Standardized

Pair = tuple[Tensor, Tensor]


class Example(NamedTuple):
    x: Tensor
    y: Tensor


def noisy(sample: Pair, generator: torch.Generator) -> Pair:
    return sample[0] + torch.randn(1, generator=generator), sample[1]


def right_factories(x: Tensor, y: Tensor, table: str) -> None:
    # A row has the structure of its columns.
    assert_type(data.from_tensors(x), Dataset[Tensor])
    assert_type(data.from_tensors(x, y), Dataset[Pair])
    assert_type(data.from_tensors(x, y, y), Dataset[tuple[Tensor, Tensor, Tensor]])
    assert_type(data.from_tensors((x, y)), Dataset[Pair])
    assert_type(data.from_tensors({"x": x}), Dataset[dict[str, Tensor]])
    assert_type(data.from_tensors({"x": x, "deep": (x, y)}), Dataset[Any])
    assert_type(data.from_tensors(Example(x, y)), Dataset[Example])
    assert_type(data.from_arrays(np.ones(3)), Dataset[Tensor])
    assert_type(data.from_arrays(np.ones(3), y), Dataset[Pair])
    assert_type(data.from_function(str, 3), Dataset[str])
    assert_type(data.from_iterable(range(3)), Dataset[int])
    assert_type(data.linear(weight=[1.0, 2.0]), Dataset[Pair])
    assert_type(data.from_csv(table, target="y"), Dataset[Pair])
    assert_type(data.from_csv(table)[0], dict[str, Any])
    assert_type(data.from_csv(["a.csv", Path("b.csv")], target="y"), Dataset[Pair])
    assert_type(data.from_parquet(["a.parquet", "b.parquet"])[0], dict[str, Any])
    assert_type(data.as_dataset([1, 2]), Dataset[Any])


def right_algebra(points: Dataset[Pair], names: Dataset[str]) -> None:
    assert_type(len(points), int)
    assert_type(points[0], Pair)
    assert_type([x for x, _ in points], list[Tensor])
    assert_type(points.map(lambda sample: sample[0]), Dataset[Tensor])
    assert_type(points.map(lambda sample: {"x": sample[0]}), Dataset[dict[str, Tensor]])
    assert_type(points.map_random(noisy, name="noise"), Dataset[Pair])
    assert_type(points.filter(lambda sample: sample[1] > 0), Dataset[Pair])
    assert_type(points.take(3).skip(1).repeat(2).select([0, 1]).cache(), Dataset[Pair])
    assert_type(points.concat(points, points), Dataset[Pair])
    assert_type(points.zip(names), Dataset[tuple[Pair, str]])
    assert_type(points.zip(names, points), Dataset[tuple[Pair, str, Pair]])
    assert_type(points.zip(names, names, names), Dataset[tuple[Any, ...]])
    assert_type(points.windows(3, horizon=1, group="series"), Dataset[Any])
    assert_type(points.take_samples([0, 1]), list[Pair])


def right_splits(points: Dataset[Pair], labels: Tensor, values: np.ndarray[Any, Any]) -> None:
    train, valid, test = points.split(0.7, 0.15, 0.15, seed=1)
    assert_type(train, Dataset[Pair])
    assert_type(points.split(0.5, 0.5, stratify=labels), tuple[Dataset[Pair], ...])
    points.split(8, 2, group=values)
    points.split(8, 2, time=True, gap=1)
    assert_type(points.kfold(5, group=["a", "b"]), list[tuple[Dataset[Pair], Dataset[Pair]]])
    assert_type(data.check_splits(train, valid, test, group=0).clean, bool)


def right_encoders(points: Dataset[Pair]) -> None:
    scale = data.Standardize().fit(points)
    assert_type(scale, Standardized)
    encoder: FittedEncoder = scale  # what is fitted is a function, and can be saved
    assert_type(points.map_batch(encoder), Dataset[Any])
    assert_type(points.map(scale), Dataset[Any])


def wrong_factories(x: Tensor) -> None:
    data.from_tensors(3)  # type: ignore[call-overload]
    data.from_tensors(x, 3)  # type: ignore[call-overload]
    data.from_tensors("x.npy")  # type: ignore[call-overload]
    data.from_function(lambda: 3, 5)  # type: ignore[arg-type, misc]  # without the index
    data.from_function(str, "5")  # type: ignore[arg-type]
    data.from_iterable(3)  # type: ignore[arg-type]
    data.linear(weight="steep")  # type: ignore[arg-type]
    data.linear(samples=1e3)  # type: ignore[arg-type]
    data.from_csv("line.csv", target=3)  # type: ignore[call-overload]
    data.from_csv({"a.csv", "b.csv"})  # type: ignore[call-overload]  # in which order?
    data.from_dicom("scans", window="lung")  # type: ignore[arg-type]
    data.from_csv("line.csv", "y")  # type: ignore[call-overload]  # which one is it?
    data.from_frame([1, 2])  # type: ignore[call-overload]


def wrong_algebra(points: Dataset[Pair], names: Dataset[str]) -> None:
    points["x"]  # type: ignore[index]
    points[0:3]  # type: ignore[index]  # skip and take
    points[0].shape  # type: ignore[attr-defined]  # a sample is a pair
    points.map(str.upper)  # type: ignore[arg-type]  # no function of pairs
    points.map(lambda x, y: x)  # type: ignore[arg-type, misc]  # a pair is one argument
    points.map(data.Standardize())  # type: ignore[arg-type]  # not fitted yet
    points.map_batch(data.Vocabulary())  # type: ignore[arg-type]  # not fitted yet
    points.map_random(lambda sample: sample)  # type: ignore[arg-type, misc]  # without the generator
    points.filter(names)  # type: ignore[arg-type]
    points.concat(names)  # type: ignore[arg-type]  # other samples
    points.zip([1, 2])  # type: ignore[call-overload]  # as_dataset([1, 2])
    points.select(0)  # type: ignore[arg-type]  # [0]
    points.take("3")  # type: ignore[arg-type]
    points.repeat(1.5)  # type: ignore[arg-type]
    points.windows("week")  # type: ignore[arg-type]
    points.windows(3, group={"a"})  # type: ignore[arg-type]  # a set has no order
    points.append(names[0])  # type: ignore[attr-defined]  # a dataset never changes
    points.schema = None  # type: ignore[misc]


def wrong_splits(points: Dataset[Pair]) -> None:
    points.split("0.5", "0.5")  # type: ignore[arg-type]
    points.split(0.5, 0.5, stratify=0.5)  # type: ignore[arg-type]
    points.split(0.5, 0.5, group=lambda sample: sample)  # type: ignore[arg-type]  # a name, or values
    points.split(0.5, 0.5, shuffle=True)  # type: ignore[call-arg]
    points.kfold("5")  # type: ignore[arg-type]
    data.check_splits(points, points, [1, 2])  # type: ignore[arg-type]
    data.Standardize().fit([1, 2])  # type: ignore[arg-type]
