"""Results: the model's own type comes back, and the history is a table of floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_type

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import CrossValidation, Fold, History, Progress, Result, Trainer, cross_validate, plots
from torchflow.data import Dataset

Pair = tuple[Tensor, Tensor]


class Model(nn.Module):
    """A model with an attribute of its own."""

    width = 3


def right_results(result: Result[Model]) -> None:
    assert_type(result.model, Model)
    assert_type(result.model.width, int)
    assert_type(result.reason, str)
    assert_type(result.history, History)
    assert_type(result.progress, Progress)
    assert_type(result.judged, Mapping[str, int])
    assert_type(result.history.last["valid/loss"], float)
    assert_type(result.history.rows, list[dict[str, float]])
    assert_type(result.history.names, tuple[str, ...])
    assert_type(result.history.to_json(), str)
    assert_type(plots.history(result, "history.png"), Figure)
    assert_type(result.plot("history.png", names=["valid/loss"]), Figure)
    assert_type(plots.compare({"one": result, "two": result.history}, metric="valid/loss"), Figure)


def right_cross_validation(trainer: Trainer[Model, Pair], points: Dataset[Pair]) -> None:
    found = cross_validate(trainer, Model, points, folds=3, epochs=2, batch_size=8, last_batch="drop")
    assert_type(found, CrossValidation[Model])
    assert_type(found.folds[0], Fold[Model])
    assert_type(found.folds[0].result.model, Model)
    assert_type(found.means, dict[str, float])
    assert_type(found.folds[0].metrics, Mapping[str, float])


def wrong_results(result: Result[Model]) -> None:
    result.loss  # type: ignore[attr-defined]  # history.last["train/loss"]
    result.model.depth.bit_length()  # type: ignore[union-attr, operator]  # what torch knows of any name: a tensor or a module
    result.reason = "better"  # type: ignore[misc]
    result.history.last["valid/loss"] = 0.0  # type: ignore[index]  # what was measured stays
    result.history.best()  # type: ignore[call-arg]  # of what?
    plots.history(result.model)  # type: ignore[arg-type]
    plots.compare([result])  # type: ignore[arg-type]  # by name
    plots.confusion(torch.ones(3), 3)  # type: ignore[arg-type]
    wrong: Result[nn.Linear] = result  # type: ignore[assignment]


def wrong_cross_validation(trainer: Trainer[Model, Pair], points: Dataset[Pair]) -> None:
    cross_validate(trainer, Model, points, 5, epochs=2)  # type: ignore[call-arg]
    cross_validate(trainer, Model, points, validation=points, epochs=2)  # type: ignore[call-arg]  # the fold's own
    cross_validate(trainer, Model, points, epochs="2")  # type: ignore[arg-type]
    cross_validate(trainer, Model, points, group=3.5, epochs=2)  # type: ignore[arg-type]
