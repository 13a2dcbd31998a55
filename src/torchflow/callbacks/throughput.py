"""How fast a run is: updates, samples and tokens a second, and the use that it makes of its device."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torchflow.arguments import function, real
from torchflow.callbacks.recurring import Recurring, interval
from torchflow.data.dataset_batches import DatasetBatches
from torchflow.device import move
from torchflow.errors import ArgumentValueError
from torchflow.events import Started, Stepped, Validated
from torchflow.intervals import Every, Progress
from torchflow.randomness import preserved, seed_globals
from torchflow.tree import samples_in

if TYPE_CHECKING:
    from torchflow.run import Run


class Speed(NamedTuple):
    """How fast the updates of one interval were.

    Attributes:
        progress: The progress at its end.
        seconds: The time that its updates took; validation is left out.
        updates: Updates a second.
        samples: Samples a second.
        counts: Counts a second, of what the loss is the mean of: samples, or tokens where ``Outputs.count`` counts those.
        utilisation: The share of ``peak_flops`` that the mathematics of the model made use of; None without it.
    """

    progress: Progress
    seconds: float
    updates: float
    samples: float
    counts: float
    utilisation: float | None


class Throughput(Recurring):
    """Measures how many updates, samples and tokens a run makes in a second.

    What is measured is in :attr:`rows`; seconds differ from run to run, so it is neither in the history nor in checkpoints. The
    device is waited for once an interval. The time between updates belongs to them: reading data, callbacks, checkpoints.

    The utilisation is the floating-point operations of the model's mathematics, forward and backward, in a second, over the
    device's highest number (model FLOPs utilisation, Chowdhery et al., 2022, arXiv:2204.02311, appendix B). Operations are counted
    by ``torch.utils.flop_counter``, which counts products of matrices, convolutions and attention, once before the first update:
    by a pass of a copy of the model over the first batch, which changes nothing of the run.

    Args:
        every: The interval; every epoch by default.
        peak_flops: Floating-point operations a second that the device can make, from its data sheet, such as ``312e12``.
        flops_per_sample: Those of one sample, forward and backward, where they should not be counted.
        report: A function that is given every :class:`~torchflow.callbacks.Speed`, such as ``print``.
        clock: A clock in seconds that only rises.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: An argument has an impossible value, or ``flops_per_sample`` is given without ``peak_flops``.
    """

    def __init__(
        self,
        every: Every | None = None,
        *,
        peak_flops: float | None = None,
        flops_per_sample: float | None = None,
        report: Callable[[Speed], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(interval("Throughput(every=…)", every, Every(epochs=1)))
        self.peak_flops = None if peak_flops is None else real("peak_flops", peak_flops, above=0.0)
        self._given = None if flops_per_sample is None else real("flops_per_sample", flops_per_sample, above=0.0)
        if self._given is not None and self.peak_flops is None:
            raise ArgumentValueError(
                "flops_per_sample says nothing without peak_flops, the device's operations a second. Give both."
            )
        self._report = None if report is None else function("report", report, hint="Write report=print.")
        self._clock = function("clock", clock)
        self._rows: list[Speed] = []
        self._flops = self._given
        self._counts: int | float | Tensor = 0
        self._loss: Tensor | None = None
        self._begin(Progress())

    @property
    def rows(self) -> list[Speed]:
        """What was measured in this call, oldest first."""
        return list(self._rows)

    @property
    def flops_per_sample(self) -> float | None:
        """The operations of one sample, given or counted; None before a run with ``peak_flops`` has counted them."""
        return self._flops

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse to count operations where reading a batch more would take it from the training."""
        if self.peak_flops is not None and self._given is None and not isinstance(run.batches, DatasetBatches):
            raise ArgumentValueError(
                "Throughput(peak_flops=…) reads one batch to count operations, and this training data yields batches that can be read "
                "once. Give flops_per_sample=…, or pass the dataset itself to fit."
            )

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Count the operations of a sample, where they are wanted, and start the clock."""
        super().on_fit_start(run, event)
        if self.peak_flops is not None and self._given is None:
            self._flops = _flops_of(run)
        self._rows = []
        self._begin(event.progress)

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Take in what the update counted."""
        self._counts = self._counts + event.total_count
        self._loss, self._mark = event.loss, self._clock()
        super().on_step_end(run, event)

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Leave the time of the validation out."""
        self._aside += self._clock() - self._mark

    def act(self, run: Run[Any, Any], progress: Progress) -> None:
        """Measure what was made since the last time."""
        if self._loss is not None:
            self._loss.item()  # waits for the device
        first = self._first
        seconds = max(self._clock() - self._started - self._aside, 1e-9)
        samples = (progress.samples - first.samples) / seconds
        used = None if self._flops is None or self.peak_flops is None else self._flops * samples / self.peak_flops
        counts = float(self._counts) / seconds
        self._rows.append(Speed(progress, seconds, (progress.updates - first.updates) / seconds, samples, counts, used))
        if self._report is not None:
            self._report(self._rows[-1])
        self._begin(progress)

    def _begin(self, progress: Progress) -> None:
        self._first, self._counts, self._loss, self._aside = progress, 0, None, 0.0
        self._started = self._mark = self._clock()


def _flops_of(run: Run[Any, Any]) -> float:
    """Count the operations of one sample, forward and backward, with a copy of the model in evaluation mode."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415  (most runs count nothing)

    device = run.choices.device
    batch = move(next(iter(run.batches.epoch(0))), device, run.choices.memory_format)
    counter = FlopCounterMode(display=False)
    with preserved(device), torch.enable_grad():
        seed_globals(run.keys("callback/throughput"), device)
        # A step may tell training from evaluation by the model's flag; one that counts its calls in training must not see this one.
        model = copy.deepcopy(run.model).eval()
        with counter:
            outputs = run.step(model, batch)
            loss = outputs if isinstance(outputs, Tensor) else outputs.loss
            torch.autograd.backward(loss)
    return counter.get_total_flops() / samples_in(batch)
