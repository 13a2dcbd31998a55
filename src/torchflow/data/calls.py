"""Calls of the user's functions: under the sample's key, and with the sample named where one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from torchflow.data.draw import Draw
from torchflow.errors import DataError
from torchflow.randomness import preserved, seed_globals


def keyed_calls(function: Callable[[Any], Any], values: Sequence[Any], indices: Tensor, draw: Draw, place: str) -> list[Any]:
    """Return ``function`` of every value, each called with the global generators under its sample's key."""
    made = []
    with preserved():
        for value, number, index in zip(values, draw.numbers(indices), indices.tolist(), strict=True):
            seed_globals(number)
            made.append(guarded(place, index, function, value))
    return made


def guarded(place: str, index: int, function: Callable[..., Any], *values: Any) -> Any:
    """Call a function of the user; whatever it raises, StopIteration and SystemExit too, names the sample.

    Raises:
        DataError: The function raised; its exception is the cause.
    """
    try:
        return function(*values)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        # StopIteration would end the loop above as if the epoch were over, SystemExit would end a worker in silence
        said = f"{type(error).__name__}: {error}".removesuffix(".") if str(error) else type(error).__name__
        raise DataError(f"{place} failed at sample {index}: it raised {said}. Its own traceback stands above this one.") from error
