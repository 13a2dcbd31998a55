"""Cross-validation: how good a recipe is on data that it has not seen, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Unpack

from torch import nn

from torchflow import arguments
from torchflow.data.interop import as_dataset
from torchflow.errors import ArgumentTypeError
from torchflow.options import FoldOptions, limits_of, refuse_unknown
from torchflow.text_table import aligned
from torchflow.trainer import Result, Trainer, blueprint_of, trainer_of
from torchflow.types import B, Data, M, SampleValues

Prepare = Callable[[Any, Any], tuple[Any, Any]]
"""A function from the two parts of a fold to the two that are trained and validated on."""


@dataclass(frozen=True, slots=True)
class Fold(Generic[M]):
    """One fold.

    Attributes:
        seed: The seed of its run, derived from the trainer's seed and the number of the fold.
        train_samples: Samples that it was trained on.
        valid_samples: Samples that it was judged on; it never trained on them.
        result: What ``fit`` returned: the model, the history, the reason of its end.
        metrics: The loss and metrics of the model on the held-out samples, such as ``{"loss": 0.0004}``.
    """

    seed: int
    train_samples: int
    valid_samples: int
    result: Result[M]
    metrics: Mapping[str, float]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Its training samples, its held-out samples, and its updates."""
        return self.train_samples, self.valid_samples, self.result.progress.updates


@dataclass(frozen=True, slots=True, repr=False)
class CrossValidation(Generic[M]):
    """What :func:`torchflow.cross_validate` returns; its ``repr`` is a table.

    Attributes:
        folds: The folds in their order.
    """

    folds: tuple[Fold[M], ...]

    @property
    def means(self) -> dict[str, float]:
        """The mean of every metric over the folds, each fold weighing the same."""
        return {name: statistics.fmean(self._column(name)) for name in self._names}

    @property
    def standard_errors(self) -> dict[str, float]:
        """The standard error of every mean, which is the standard deviation over the folds (n - 1) over the root of their number.

        Folds share most of their training samples, so it tells too little of how another data set would differ; no unbiased
        estimate exists (Bengio and Grandvalet, 2004, Journal of Machine Learning Research 5).
        """
        root = math.sqrt(len(self.folds))
        return {name: _deviation(self._column(name)) / root for name in self._names}

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for fold in self.folds for name in fold.metrics))

    def _column(self, name: str) -> list[float]:
        return [fold.metrics.get(name, math.nan) for fold in self.folds]

    def __repr__(self) -> str:
        names, means, errors = self._names, self.means, self.standard_errors
        rows = [
            (str(number), *(f"{size:,}" for size in fold.sizes), *(f"{fold.metrics.get(name, math.nan):.4g}" for name in names))
            for number, fold in enumerate(self.folds)
        ]
        blank = ("", "", "")
        mean, error = (
            (title, *blank, *(f"{values[name]:.4g}" for name in names))
            for title, values in (("mean", means), ("standard error", errors))
        )
        return "\n".join(aligned(("fold", "train", "valid", "updates", *names), [*rows, (), mean, error]))


def cross_validate(
    trainer: Trainer[M, B],
    model: Callable[[], M],
    data: Data[B],
    *,
    folds: int = 5,
    stratify: SampleValues = None,
    group: SampleValues = None,
    time: SampleValues = None,
    gap: int = 0,
    prepare: Prepare | None = None,
    **options: Unpack[FoldOptions],
) -> CrossValidation[M]:
    """Train a fresh model on each of several folds of the data, and judge it on the samples that the fold left out.

    Every sample is held out by exactly one fold (in time: by one at most). A fold is the run of this trainer under a seed of its own, which is
    derived from the trainer's seed and the fold's number: the whole is a pure function of the seed and the data, and one fold does not depend on another.
    The held-out samples are the fold's validation, ``"valid"``, so that a callback may watch them; one that stops by them makes the
    result too good. With checkpoints, each fold has a folder in that of the trainer, and ``resume=True`` goes on with the fold that was interrupted; logs
    are in ``fold-0`` and so on beside where they would be.

    Args:
        trainer: The mathematics and the hardware; it stays as it is.
        model: A recipe, called once for each fold under a key of the fold's seed.
        data: A dataset, or what becomes one: tensors, arrays, anything with a length and items.
        folds: How many, at least 2.
        stratify: A class that all folds have in equal shares; as in :meth:`torchflow.data.Dataset.kfold`, like the next three.
        group: A group, such as a patient, that is in one fold alone.
        time: A time, or True where samples are in order: each fold is judged on what comes after its training.
        gap: Samples that are left out before each part that is held out in time.
        prepare: ``(train, valid) -> (train, valid)``, called once for each fold: the place to fit an encoder on the training part alone.
        options: What :meth:`torchflow.Trainer.fit` takes by keyword, but for ``validation``.

    Returns:
        The folds with their metrics, means and standard errors.

    Raises:
        ArgumentTypeError: ``model`` is a model and no recipe, no duration is given, or an argument has the wrong type.
        ArgumentValueError: An argument has an impossible value, or there are too few samples or groups.
        DataError: The data is not what it was taken for.
    """
    blueprint = blueprint_of(trainer)
    if isinstance(model, nn.Module):
        raise ArgumentTypeError(
            f"model must be a recipe that makes a fresh model for each fold, got a {type(model).__name__}. Write lambda: {type(model).__name__}(...)."
        )
    arguments.function("model", model, hint="Write lambda: nn.Linear(1, 1).")
    if prepare is not None:
        arguments.function("prepare", prepare, hint="Write def prepare(train, valid): ... and return both.")
    refuse_unknown("cross_validate", options, FoldOptions)
    limits_of("cross_validate", options)
    seed = blueprint.choices.seed
    pairs = as_dataset(data).kfold(folds, seed, stratify=stratify, group=group, time=time, gap=gap)
    parts: list[tuple[Any, Any]] = [pair if prepare is None else _prepared(prepare, *pair) for pair in pairs]
    judges = [trainer_of(blueprint.fold(number)) for number in range(len(parts))]
    for judge, (train, valid) in zip(judges, parts, strict=True):
        _check(judge, model, train, valid, options)
    return CrossValidation(tuple(_fold(*fold, model, options) for fold in zip(judges, parts, strict=True)))


def _check(judge: Trainer[Any, Any], model: Any, train: Any, valid: Any, options: Mapping[str, Any]) -> None:
    """Build the run of a fold and let it go: what is wrong with it is said before the first fold starts."""
    blueprint_of(judge).resume_of(options.get("resume", False))
    building = {name: value for name, value in options.items() if name not in ("epochs", "max_updates", "max_seconds", "resume")}
    judge.start(model, train, validation=valid, **building).close()


def _fold(judge: Trainer[Any, Any], parts: tuple[Any, Any], model: Any, options: Mapping[str, Any]) -> Fold[Any]:
    """Train and judge one fold."""
    train, valid = parts
    result = judge.fit(model, train, validation=valid, **options)
    reading = {name: options[name] for name in ("batch_size", "workers", "collate") if name in options}
    metrics = judge.evaluate(result.model, valid, **reading)
    return Fold(judge.choices.seed, len(train), len(valid), result, metrics)


def _prepared(prepare: Prepare, train: Any, valid: Any) -> tuple[Any, Any]:
    """Return what ``prepare`` makes of the two parts of a fold."""
    made: object = prepare(train, valid)
    if not isinstance(made, tuple) or len(made) != 2:
        raise ArgumentTypeError(f"prepare must return the pair (train, valid), got {arguments.shown(made)}.")
    return made


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
