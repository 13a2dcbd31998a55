from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score, top_k_accuracy_score
from torch import Tensor

from torchflow.errors import ArgumentTypeError, ArgumentValueError, StepError
from torchflow.metrics import R2, absolute_error, accuracy, squared_error, top_k


def cuts(samples: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, max(1, samples - 1)), max_size=5, unique=True).map(sorted)


def parts_of(values: Tensor, at: list[int]) -> list[Tensor]:
    return [part for part in torch.tensor_split(values, at) if len(part)]


# R2


@given(st.integers(2, 30), st.integers(1, 3), st.floats(-1e4, 1e4), st.integers(0, 2**31), st.data())
def test_r2_equals_sklearns_whatever_the_cut(samples: int, outputs: int, offset: float, seed: int, data: st.DataObject) -> None:
    torch.manual_seed(seed)
    targets = torch.randn(samples, outputs, dtype=torch.float64) + offset
    predictions = targets + torch.randn(samples, outputs, dtype=torch.float64) * 0.5
    metric = R2()
    at = data.draw(cuts(samples))
    for p, t in zip(parts_of(predictions, at), parts_of(targets, at), strict=True):
        metric.update(p, t)
    assert metric.compute().item() == pytest.approx(r2_score(targets.numpy(), predictions.numpy()), rel=1e-7, abs=1e-7)


def test_r2_of_one_output_without_a_dimension_and_of_nothing() -> None:
    metric = R2()
    assert math.isnan(metric.compute().item())
    metric.update(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert metric.compute().item() == pytest.approx(0.5)
    metric.reset()
    assert math.isnan(metric.compute().item())


def test_r2_of_constant_targets_is_nan() -> None:
    metric = R2()
    metric.update(torch.rand(4), torch.ones(4))
    assert math.isnan(metric.compute().item())


def test_r2_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(StepError, match=r"predictions of shape \(4, 1\) and targets of shape \(4,\) must have the same shape"):
        R2().update(torch.rand(4, 1), torch.rand(4))


# Metrics of one value a sample


def test_errors_are_means_within_a_sample() -> None:
    torch.manual_seed(0)
    p, t = torch.randn(5, 3, 2), torch.randn(5, 3, 2)
    torch.testing.assert_close(absolute_error(p, t), (p - t).abs().mean((1, 2)))
    torch.testing.assert_close(squared_error(p, t), (p - t).square().mean((1, 2)))
    assert absolute_error(p[:, 0, 0], t[:, 0, 0]).shape == (5,)
    for metric in (absolute_error, squared_error):
        with pytest.raises(StepError, match=r"must have the same shape; torch would broadcast .* Reshape one of them"):
            metric(torch.zeros(5, 1), torch.zeros(5))


def test_accuracy_is_that_of_the_highest_score() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert accuracy(scores, torch.tensor([1, 1, 1])).tolist() == [1.0, 0.0, 1.0]
    pixels = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])  # one sample, two classes, two pixels
    assert accuracy(pixels, torch.tensor([[1, 1]])).tolist() == [0.5]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_equals_sklearns(k: int) -> None:
    torch.manual_seed(3)
    scores, targets = torch.randn(50, 6), torch.randint(6, (50,))
    metric = top_k(k)
    expected = top_k_accuracy_score(targets.numpy(), scores.numpy(), k=k, labels=np.arange(6))
    assert metric(scores, targets).mean().item() == pytest.approx(expected)
    assert metric.__name__ == f"top_{k}"
    if k == 1:
        assert torch.equal(metric(scores, targets), accuracy(scores, targets))


def test_more_places_than_classes_always_hit() -> None:
    assert top_k(9)(torch.randn(4, 3), torch.tensor([0, 1, 2, 0])).tolist() == [1.0] * 4


def test_top_k_needs_a_whole_number_from_one_on() -> None:
    with pytest.raises(ArgumentValueError, match="k must be an int of at least 1 and below"):
        top_k(0)
    with pytest.raises(ArgumentTypeError, match="k must be an int of at least 1, got True"):
        top_k(True)


@pytest.mark.parametrize("metric", [accuracy, top_k(2)])
@pytest.mark.parametrize(
    ("scores", "targets"),
    [
        (torch.zeros(4, 3), torch.zeros(4)),
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.long)),
        (torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.long)),
        (torch.zeros(4), torch.zeros(4, dtype=torch.long)),
    ],
)
def test_classes_and_scores_of_the_wrong_shape_are_refused(metric: Any, scores: Tensor, targets: Tensor) -> None:
    with pytest.raises(StepError, match=r"accuracy needs scores \(samples, classes, …\) and integer targets \(samples, …\), got"):
        metric(scores, targets)
