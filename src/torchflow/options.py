"""The keyword arguments of ``fit``, for what takes the same ones and hands them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from torchflow.data.bucketing import Bucketed
from torchflow.data.reading import Reading
from torchflow.data.workers import Workers
from torchflow.errors import ArgumentTypeError
from torchflow.intervals import Every
from torchflow.keywords import refuse
from torchflow.limits import Limits
from torchflow.saving import Resume
from torchflow.types import Data, LastBatch


class FoldOptions(TypedDict, total=False):
    """What :meth:`torchflow.Trainer.fit` takes by keyword, but for the validation data."""

    epochs: int | None
    max_updates: int | None
    max_seconds: float | None
    batch_size: int | None
    shuffle: bool | Bucketed | None
    last_batch: LastBatch
    workers: int | Workers
    collate: Callable[[list[Any]], Any] | None
    validate: Every | None
    resume: bool | Resume


class FitOptions(FoldOptions, total=False):
    """What :meth:`torchflow.Trainer.fit` takes by keyword."""

    validation: Data[Any] | Mapping[str, Data[Any]] | None


def refuse_unknown(verb: str, options: Mapping[str, object], known: type) -> None:
    """Refuse a keyword that is not one of ``known``.

    Raises:
        ArgumentTypeError: There is no such argument.
    """
    names = list(known.__annotations__)
    for name in options:
        if name not in names:
            listed = f"Beside its own it takes those of fit: {', '.join(names)}."
            if name in FitOptions.__annotations__:  # one of fit that has no place here
                raise ArgumentTypeError(f"{verb} has no argument {name!r}. {listed}")
            refuse(verb, name, names, listed)


def limits_of(verb: str, options: Mapping[str, Any]) -> Limits:
    """Return the duration that ``options`` say.

    Raises:
        ArgumentTypeError: They say none, or something that is no number.
        ArgumentValueError: One is below 1 (seconds: not above 0).
    """
    epochs, updates, seconds = (options.get(name) for name in ("epochs", "max_updates", "max_seconds"))
    if epochs is None and updates is None and seconds is None:
        raise ArgumentTypeError(f"{verb} needs to know when to end. Pass epochs=10, max_updates=1000 or max_seconds=600.")
    return Limits(epochs, updates, seconds)


def reading_of(options: Mapping[str, Any]) -> Reading:
    """Return how ``options`` say that data is read."""
    names = ("batch_size", "shuffle", "last_batch", "workers", "collate")
    return Reading(**{name: options[name] for name in names if name in options})
