"""What a learning rate range test has found, and the rate that it suggests."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 10
"""How many updates the average of the losses takes to settle."""


@dataclass(frozen=True, slots=True, repr=False)
class LearningRateTest:
    """What :func:`torchflow.find_learning_rate` returns.

    Attributes:
        rates: The learning rate of every update, growing by equal ratios.
        losses: The loss of every update.
        smoothed: The losses, smoothed.
        suggestion: The rate at which the smoothed loss falls fastest; None where it never fell.
        reason: Why the trial ended.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    reason: str

    def __repr__(self) -> str:
        said = "no suggestion: the loss never fell" if self.suggestion is None else f"suggestion {self.suggestion:.2g}"
        tried = f"{len(self.rates)} updates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}" if self.rates else "no update"
        return f"LearningRateTest({said}; {tried}; {self.reason})"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the loss over the learning rate; see :func:`torchflow.plots.learning_rates`."""
        from torchflow import plots  # noqa: PLC0415, a trial does without plots

        return plots.learning_rates(self, path)


def judged(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], reason: str) -> LearningRateTest:
    """Return the result of a trial, with its suggestion."""
    return LearningRateTest(tuple(rates), tuple(losses), tuple(smoothed), suggested(rates, smoothed), reason)


def suggested(rates: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """Return the rate at which the loss falls fastest over the logarithm of the rate, before its least value.

    Slopes are central differences over a tenth of the updates, and the first ones, of which the average still jumps, are left out.
    None where the loss has its least value there, or never falls.
    """
    reach = max(1, len(smoothed) // 20)
    least = min(range(len(smoothed)), key=smoothed.__getitem__, default=0)
    places = range(LEAST, min(least, len(smoothed) - reach))
    slopes = {n: (smoothed[n + reach] - smoothed[n - reach]) / math.log(rates[n + reach] / rates[n - reach]) for n in places}
    steepest = min(slopes, key=slopes.__getitem__, default=0)
    return rates[steepest] if slopes and slopes[steepest] < 0 else None
