"""Stochastic weight averaging."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_swa_multi_avg_fn, update_bn

from torchflow.arguments import flag
from torchflow.callbacks.averaging import Averaging
from torchflow.device import move
from torchflow.intervals import Every
from torchflow.randomness import preserved, seed_globals

if TYPE_CHECKING:
    from torchflow.run import Run


class SWA(Averaging):
    """Keeps the plain mean of the weights at the ends of late epochs (Izmailov et al., 2018, arXiv:1803.05407).

    It is meant for the last quarter of a training, at a learning rate that no longer falls: ``torch.optim.swa_utils.SWALR`` is a
    scheduler for that. Training itself does not see the average.

    Args:
        start_after: An interval up to whose end nothing is averaged, such as ``Every(epochs=75)`` of 100.
        every: When the weights of the moment are taken in: after every epoch by default. Not in seconds.
        statistics: Whether the running statistics of batch normalisation are computed anew for the average, by one pass over
            the training data at the end of the run. Without such layers nothing is read.
        validate: Whether validation looks at the average, with the running statistics of the model at the last interval.
        apply: Whether the average is copied into the model when the run ends complete, after the last checkpoint. Beside
            ``EarlyStopping(restore_best=True)`` the model ends with the best weights that validation looked at, in whatever order the
            two are given: with ``validate``, the best average, and otherwise none.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: An argument has an impossible value.
    """

    def __init__(
        self,
        start_after: Every | None = None,
        *,
        every: Every | None = None,
        statistics: bool = True,
        validate: bool = False,
        apply: bool = True,
    ) -> None:
        self.statistics = flag("statistics", statistics)
        super().__init__(Every(epochs=1) if every is None else every, start_after, validate=validate, apply=apply)

    def rule(self, averages: Sequence[Tensor], weights: Sequence[Tensor], count: int) -> None:
        """Move every average to the mean of one value more."""
        get_swa_multi_avg_fn()(list(averages), list(weights), count)  # type: ignore[no-untyped-call]  # torch's, unannotated

    def finish(self, run: Run[Any, Any], averaged: nn.Module) -> None:
        """Compute running statistics anew, from the first epoch's batches and on a random stream of their own."""
        if not self.statistics:
            return
        device = run.choices.device
        flags = [(module, module.training) for module in averaged.modules()]
        with preserved(device), contextlib.closing(_inputs(run)) as inputs:
            seed_globals(run.keys("callback/swa", run.progress.updates), device)
            try:
                update_bn(inputs, _Forward(averaged, run.step))
            finally:
                for module, training in flags:
                    module.training = training


def _inputs(run: Run[Any, Any]) -> Generator[list[Any], None, None]:
    """Yield the batches of the first epoch, each as the first entry of a list, which is what ``update_bn`` takes."""
    for batch in run.batches.epoch(0):
        yield [move(batch, run.choices.device, run.choices.memory_format)]


class _Forward(nn.Module):
    """A step as the forward pass of a module, which is what ``update_bn`` calls."""

    def __init__(self, model: nn.Module, step: Any) -> None:
        super().__init__()
        self.model = model
        self._step = step

    def forward(self, batch: Any) -> None:
        self._step(self.model, batch)
