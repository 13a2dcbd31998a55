"""Data with a known answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.schema import Schema
from torchflow.data.sources import Columns
from torchflow.errors import ArgumentTypeError
from torchflow.randomness import generator, key


def linear(
    weight: float | Sequence[float] | Tensor = 0.7,
    bias: float = 0.3,
    samples: int = 1000,
    noise: float = 0.02,
    seed: int = 0,
) -> Dataset[tuple[Tensor, Tensor]]:
    """Return points around a line: ``y = weight · x + bias + noise * N(0, 1)``, with x uniform in [0, 1).

    Args:
        weight: The slope, or one for each feature.
        bias: The value at 0.
        samples: How many points.
        noise: The standard deviation around the line.
        seed: Names the points; equal seeds give equal points.

    Returns:
        Samples ``(x, y)``, float32, of shapes (features,) and (1,).

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: No samples, negative noise, or a number that is not finite.
    """
    weights = _weights(weight)
    count = arguments.whole("samples", samples)
    shift, spread = arguments.real("bias", bias), arguments.real("noise", noise, minimum=0.0)
    numbers = generator(key(arguments.seed("seed", seed), "linear"))
    x = torch.rand(count, len(weights), generator=numbers)
    y = (x * torch.tensor(weights)).sum(1, keepdim=True) + shift + spread * torch.randn(count, 1, generator=numbers)
    return Dataset(Columns((x, y), "linear", Schema.of_batch((x, y))))


def _weights(weight: object) -> list[float]:
    """Return the slopes as floats, at least one."""
    if isinstance(weight, Tensor):
        weight = weight.reshape(-1).tolist()
    if isinstance(weight, Sequence) and not isinstance(weight, (str, bytes)):
        if not weight:
            raise ArgumentTypeError("weight must be a number or a sequence of at least one number, got an empty sequence.")
        return [arguments.real(f"weight[{i}]", value) for i, value in enumerate(weight)]
    return [arguments.real("weight", weight)]
