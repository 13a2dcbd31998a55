"""What a learning rate range test has found, and the rate that it suggests."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 10
"""How many updates the average of the losses takes to settle."""
SMOOTH = 0.9
"""How much of the average of the losses stays at each update."""
CLEAR = 5.0
"""How many standard errors the smoothed loss must fall. White noise of a hundred updates falls so far in fewer than one trial of a hundred."""
ROUNDING = 1e-6
"""What of a loss in float32 may be rounding."""


@dataclass(frozen=True, slots=True, repr=False)
class LearningRateTest:
    """What :func:`torchflow.find_learning_rate` returns.

    Attributes:
        rates: The learning rate of every update, growing by equal ratios.
        losses: The loss of every update.
        smoothed: The losses, smoothed.
        suggestion: The rate at which the smoothed loss falls fastest; None where it does not fall clearly, by more than its noise.
        reason: Why the trial ended.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    reason: str

    def __repr__(self) -> str:
        said = (
            "no suggestion: the loss does not fall by more than its noise"
            if self.suggestion is None
            else f"suggestion {self.suggestion:.2g}"
        )
        tried = f"{len(self.rates)} updates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}" if self.rates else "no update"
        return f"LearningRateTest({said}; {tried}; {self.reason})"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the loss over the learning rate; see :func:`torchflow.plots.learning_rates`."""
        from torchflow import plots  # noqa: PLC0415, a trial does without plots

        return plots.learning_rates(self, path)


def judged(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], reason: str) -> LearningRateTest:
    """Return the result of a trial, with its suggestion."""
    return LearningRateTest(tuple(rates), tuple(losses), tuple(smoothed), suggested(rates, losses, smoothed), reason)


def suggested(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """Return the rate at which the loss falls fastest over the logarithm of the rate, before its least value.

    Slopes are central differences over a tenth of the updates. They are compared from where the smoothed loss was last no further below
    its largest value than noise brings it; the first values, of which the average still jumps, are left out. None where the least value is
    among those, or no further down than noise.
    """
    reach = max(1, len(smoothed) // 20)
    least = min(range(len(smoothed)), key=smoothed.__getitem__, default=0)
    if least <= LEAST:
        return None
    told_apart = max(smoothed[LEAST:least]) - noise_of(losses[: least + 1])
    begin = max((n for n in range(LEAST, least + 1) if smoothed[n] >= told_apart), default=least)
    places = range(max(LEAST, begin - reach), min(least, len(smoothed) - reach))
    if begin == least or not places:
        return None
    slopes = {n: (smoothed[n + reach] - smoothed[n - reach]) / math.log(rates[n + reach] / rates[n - reach]) for n in places}
    steepest = min(slopes, key=slopes.__getitem__)
    return rates[steepest] if slopes[steepest] < 0 else None


def noise_of(losses: Sequence[float]) -> float:
    """Return how far the smoothed loss may fall by noise: :data:`CLEAR` standard errors, and never less than rounding makes.

    The variance of single losses is half the mean square of the differences of neighbours, to which a fall over many updates adds next
    to nothing (von Neumann, 1941, Annals of Mathematical Statistics 12). The average keeps (1 - s) / (1 + s) of it, and the difference of
    two averages that are far apart has twice that.

    Args:
        losses: At least two.
    """
    variance = statistics.fmean((after - before) ** 2 for before, after in pairwise(losses)) / 2
    error = math.sqrt(2 * variance * (1 - SMOOTH) / (1 + SMOOTH))
    return max(CLEAR * error, ROUNDING * max(map(abs, losses)))
