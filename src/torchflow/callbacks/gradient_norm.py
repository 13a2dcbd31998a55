"""The size of the gradients in the history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from torchflow.callbacks.history import history_of
from torchflow.callbacks.recurring import Recurring, interval
from torchflow.events import Gradients
from torchflow.intervals import Every, Progress
from torchflow.types import State
from torchflow.weighted_mean import WeightedMean

if TYPE_CHECKING:
    from torchflow.run import Run


class GradientNorm(Recurring):
    """Records the 2-norm of all gradients of an update together into the history.

    ``"gradients/mean_norm"`` and ``"gradients/largest_norm"`` are over the updates since the last record. It is the norm before
    ``clip_norm`` clips; the device is waited for at a record alone. Updates that were not finite are left out. Compiled updates
    show no gradients: with this callback, ``compile=`` does nothing.

    Args:
        every: When; at the end of every epoch by default. Not in seconds.

    Raises:
        ArgumentTypeError: ``every`` is no interval.
        ArgumentValueError: ``every`` is in seconds.
    """

    def __init__(self, every: Every | None = None) -> None:
        super().__init__(interval("GradientNorm(every=…)", every, Every(epochs=1), seconds=False))
        self._mean: WeightedMean | None = None
        self._largest: Tensor | None = None
        self._stored: Mapping[str, Any] | None = None

    def on_gradients(self, run: Run[Any, Any], event: Gradients) -> None:
        """Take in the norm of an update."""
        norm = event.norm
        if norm is None:
            norm = get_total_norm([_dense(p.grad) for p in run.parameters if p.grad is not None])
        norm = norm.detach().clone()
        self._gathered(run).add(norm, 1)
        self._largest = norm if self._largest is None else torch.maximum(self._largest, norm)

    def act(self, run: Run[Any, Any], progress: Progress) -> None:
        """Write mean and maximum into the history, and begin anew."""
        largest = math.nan if self._largest is None else self._largest.item()
        values = {"gradients/mean_norm": self._gathered(run).compute(), "gradients/largest_norm": largest}
        history_of(run).note(progress, values)
        self._mean = self._largest = self._stored = None

    def state(self) -> Mapping[str, State]:
        """Return what was gathered since the last record."""
        mean = self._stored if self._mean is None else self._mean.state()
        return {"mean": mean, "largest": self._largest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        largest = state["largest"]
        self._mean, self._stored = None, state["mean"]
        self._largest = None if largest is None else largest.clone()

    def _gathered(self, run: Run[Any, Any]) -> WeightedMean:
        """Return the mean, which is kept where the run is: a state that was loaded knows no device."""
        if self._mean is None:
            self._mean = WeightedMean(run.choices.device)
            if self._stored is not None:
                self._mean.load_state(self._stored)
                self._stored = None
        return self._mean


def _dense(gradient: Tensor) -> Tensor:
    """Return the values of a gradient; those of a sparse one alone, since all others are zero."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient
