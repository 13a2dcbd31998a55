"""Transforms made of others: one after the other, only sometimes, or somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchflow import arguments
from torchflow.data.augment.transform import probability as checked_probability
from torchflow.data.fields import checked_field, part_of, with_part
from torchflow.data.schema import Schema, after
from torchflow.randomness import preserved, seed_globals

Function = Callable[[Any, torch.Generator], Any]


class Compose:
    """Transforms one after the other, drawing from one generator.

    Args:
        transforms: Functions of a sample and a generator.
    """

    def __init__(self, *transforms: Function) -> None:
        hint = "Pass them one by one: Compose(Flip(), Rotate(10))."
        self.transforms = tuple(arguments.function("transforms", transform, hint=hint) for transform in transforms)

    @property
    def foreign(self) -> bool:
        """Whether one of them draws from the global generators."""
        return any(getattr(transform, "foreign", False) for transform in self.transforms)

    # A sample of any structure, as the transforms take and give it.
    def __call__(self, sample: Any, generator: torch.Generator) -> Any:
        """Return what the last transform makes."""
        for transform in self.transforms:
            sample = transform(sample, generator)
        return sample

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema of the samples; None where a transform does not say what it makes."""
        for transform in self.transforms:
            before = after(transform, before)
        return before

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


class Sometimes:
    """A transform with a probability; it must leave the shape as it is, or batches do not stack.

    Args:
        transform: A function of a sample and a generator.
        probability: How often, from 0 to 1.
    """

    def __init__(self, transform: Function, *, probability: float = 0.5) -> None:
        self.transform = arguments.function("transform", transform)
        self.probability = checked_probability(probability)

    @property
    def foreign(self) -> bool:
        """Whether it draws from the global generators."""
        return bool(getattr(self.transform, "foreign", False))

    # A sample of any structure, as the transforms take and give it.
    def __call__(self, sample: Any, generator: torch.Generator) -> Any:
        """Return the sample, or what the transform makes of it."""
        chance = torch.rand((), generator=generator, dtype=torch.float64).item()
        return self.transform(sample, generator) if chance < self.probability else sample

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema, where the transform does not change it."""
        made = after(self.transform, before)
        return made if made == before else None

    def __repr__(self) -> str:
        return f"Sometimes({self.transform!r}, probability={self.probability:g})"


class Keyed:
    """A transform of another library, which draws from the global generators: torchvision's, kornia's, albumentations'.

    The global generators of torch, NumPy and :mod:`random` are put under a key that is drawn from the sample's generator,
    and put back afterwards. So the sample depends on the seed, the epoch and its index alone, as with any other transform.
    With ``workers=`` such transforms run in processes, not in threads.

    Args:
        transform: A function of one part of a sample, such as ``torchvision.transforms.v2.RandomRotation(10)``; it gets
            and returns a tensor, or whatever the part is. Kornia's modules return a batch of one:
            ``lambda image: transform(image)[0]``.
        field: The part; None for the sample itself.
    """

    foreign = True

    # A transform of another library, from what it takes to what it gives.
    def __init__(self, transform: Callable[[Any], Any], *, field: int | str | None = 0) -> None:
        self.transform = arguments.function("transform", transform)
        self.field = checked_field(field)

    # A sample of any structure, as the transforms take and give it.
    def __call__(self, sample: Any, generator: torch.Generator) -> Any:
        """Return the sample with its part transformed."""
        number = int(torch.randint(2**63 - 1, (), generator=generator))
        with preserved():
            seed_globals(number)
            made = self.transform(part_of(sample, self.field))
        return with_part(sample, self.field, made)

    def __repr__(self) -> str:
        return f"Keyed({self.transform!r}, field={self.field!r})"
