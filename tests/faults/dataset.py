"""The foreign dataset of the campaign; in a module of its own, because a worker that begins with a new interpreter imports it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.laws.problems import table

FEATURES, SAMPLES = 6, 93


class Foreign:
    """A dataset that knows nothing of torchflow and draws from every global generator.

    Args:
        fault: From an index and its sample to what is returned instead.
    """

    def __init__(self, fault: Callable[[int, Any], Any] | None = None) -> None:
        self._x, self._y = table(SAMPLES, FEATURES)
        self._fault = fault

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        noise = torch.rand(FEATURES) + float(np.random.rand()) + random.random()
        sample = (self._x[index] + 0.1 * noise, self._y[index], torch.tensor([index]))
        return sample if self._fault is None else self._fault(index, sample)
