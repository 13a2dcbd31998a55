"""What all random transforms share: which fields they change, and that all of these change alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.fields import checked_field, part_of, with_field, with_part
from torchflow.data.schema import Field, Schema
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError

Where = int | str | None | Sequence[int | str]
"""A field, or several that are transformed alike: positions in a tuple, keys of a dict, attributes; None for the sample itself."""


class Transform(ABC):
    """A random transform: ``transform(sample, generator)`` returns another sample, and leaves the first as it is.

    Subclasses say how many numbers they draw and what they do to a part; one of your own needs no more than that.

    Args:
        field: The part of a sample that it changes, or several that it changes alike, such as ``(0, 1)`` for a picture
            and its mask; None for the sample itself.
    """

    draws = 0
    foreign = False

    def __init__(self, field: Where = 0) -> None:
        several = isinstance(field, Sequence) and not isinstance(field, str)
        self.fields = tuple(checked_field(one) for one in (field if several else (field,)))  # type: ignore[union-attr]
        if not self.fields:
            raise ArgumentValueError("field names no part of a sample. Name at least one.")

    # A sample of any structure; one part is drawn anew.
    def __call__(self, sample: Any, generator: torch.Generator) -> Any:
        """Return the sample with its fields changed.

        Args:
            sample: A sample.
            generator: Where the numbers are drawn from, as many for every sample.

        Raises:
            DataError: A field is not there, or is no picture that can be transformed.
        """
        drawn = torch.rand(self.draws, generator=generator, dtype=torch.float64).tolist()
        for field in self.fields:
            part = part_of(sample, field)
            if not isinstance(part, Tensor) or part.ndim < 2:
                found = f"a tensor of shape {tuple(part.shape)}" if isinstance(part, Tensor) else arguments.shown(part)
                raise DataError(f"{type(self).__name__} needs a tensor (..., height, width) at field {field!r}, got {found}.")
            sample = with_part(sample, field, self.apply(part, drawn, generator))
        return sample

    @abstractmethod
    def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
        """Return what becomes of a part of a sample.

        Args:
            image: Shape (..., height, width), of any dtype; it is not written to.
            drawn: ``draws`` numbers, uniform from 0 to 1, the same for each of the fields.
            generator: Where more numbers come from, for noise; drawing here keeps fields and masks no longer in step.
        """

    def size_after(self, field: Field) -> tuple[int | None, ...]:
        """Return the shape of a field after the transform; that of before where it keeps its size."""
        return field.shape

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema of the samples."""
        made = before
        for field in self.fields:
            made = with_field(made, field, lambda one: replace(one, shape=self.size_after(one)))
        return made

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name != "fields")
        return (
            f"{type(self).__name__}({said}{', ' if said else ''}field={self.fields if len(self.fields) > 1 else self.fields[0]!r})"
        )


def span(name: str, value: object, *, around: float | None = None, minimum: float | None = None) -> tuple[float, float]:
    """Return the range that a number is drawn from.

    Args:
        name: The argument's name.
        value: A pair (least, most), or, with ``around``, one number: how far from there on both sides.
        around: The middle of a range that is given by one number.
        minimum: What the range must not go below; where one number reaches further, the range is cut.

    Raises:
        ArgumentTypeError: It is neither.
        ArgumentValueError: The range is empty, or goes below the minimum.
    """
    if around is not None and not isinstance(value, Sequence):
        spread = arguments.real(name, value, minimum=0.0)
        least = around - spread if minimum is None else max(minimum, around - spread)
        return least, around + spread
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ArgumentTypeError(f"{name} must be a pair (least, most), got {arguments.shown(value)}.")
    low, high = (arguments.real(name, number) for number in value)
    if low > high or (minimum is not None and low < minimum):
        bound = "" if minimum is None else f" from {minimum:g} on"
        raise ArgumentValueError(f"{name} must be a pair (least, most){bound}, got {arguments.shown(value)}.")
    return low, high


def between(drawn: float, bounds: tuple[float, float]) -> float:
    """Return the number of a range that a uniform one from 0 to 1 stands for."""
    return bounds[0] + drawn * (bounds[1] - bounds[0])


def probability(value: object) -> float:
    """Check a probability."""
    chance = arguments.real("probability", value, minimum=0.0)
    if chance > 1:
        raise ArgumentValueError(f"probability must be from 0 to 1, got {value!r}.")
    return chance


def pair_of(name: str, value: object, *, minimum: int = 1) -> tuple[int, int]:
    """Check a size (height, width), or one number for both."""
    both = value if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(both) != 2:
        raise ArgumentTypeError(f"{name} must be one whole number or (height, width), got {arguments.shown(value)}.")
    return arguments.whole(name, both[0], minimum=minimum), arguments.whole(name, both[1], minimum=minimum)
