"""Finding a learning rate by trying, on copies: nothing of the trial is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from torchflow import arguments
from torchflow.data.bucketing import Bucketed
from torchflow.data.reading import Reading
from torchflow.data.workers import Workers
from torchflow.errors import ArgumentValueError, NonFiniteError
from torchflow.events import Stepped
from torchflow.loop import events
from torchflow.range_test import SMOOTH, LearningRateTest, judged
from torchflow.run import Run
from torchflow.trainer import Trainer, blueprint_of
from torchflow.trials import trial
from torchflow.types import B, Data, LastBatch, M


def find_learning_rate(
    trainer: Trainer[M, B],
    model: M | Callable[[], M],
    data: Data[B],
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    updates: int = 100,
    diverged: float = 4.0,
    batch_size: int | None = None,
    shuffle: bool | Bucketed | None = None,
    last_batch: LastBatch = "keep",
    workers: int | Workers = 0,
    collate: Callable[[list[Any]], B] | None = None,
) -> LearningRateTest:
    """Raise the learning rate with every update of a trial, and see where the loss falls and where it breaks out.

    The learning rate range test (Smith, 2017, "Cyclical learning rates for training neural networks", arXiv:1506.01186): rates
    from ``lowest`` to ``highest`` at equal ratios. The loss is smoothed over about ten updates; the suggestion is where it falls fastest
    before its least value, over the logarithm of the rate. There is none where the smoothed loss does not fall by five standard errors of its noise, which is
    measured by the differences of neighbouring losses: nothing can be learnt, or batches are so small that nobody could tell. The trial works on copies and without schedulers and callbacks: the
    model, the optimizer, the random state and every later run are as if it had not been.

    Args:
        trainer: The mathematics and the hardware, with one optimizer. Groups keep the ratios of their rates.
        model: The model, whose weights stay as they are, or its recipe.
        data: The training data, as in :meth:`torchflow.Trainer.fit`; no iterator, which a trial would use up.
        lowest: The rate of the first update.
        highest: The rate of the last update.
        updates: How many updates at most, at least 10.
        diverged: The trial ends when the smoothed loss is this many times its first value, or not finite.
        batch_size: Samples of a batch; 32 by default. Another size wants another rate.
        shuffle: As in ``fit``.
        last_batch: As in ``fit``.
        workers: As in ``fit``.
        collate: As in ``fit``.

    Returns:
        The rates, the losses and the suggestion, or None in its place.

    Raises:
        ArgumentTypeError: An argument has the wrong type, or cannot be copied.
        ArgumentValueError: An argument has an impossible value, or the trainer several optimizers.
        DataError: The data is not what it was taken for.
        StepError: The step returned what cannot be trained on.
    """
    low = arguments.real("lowest", lowest, above=0.0)
    high = arguments.real("highest", highest, above=low)
    number = arguments.whole("updates", updates, minimum=10)
    limit = arguments.real("diverged", diverged, above=1.0)
    reading = Reading(batch_size, shuffle, last_batch, workers, collate)
    with trial(blueprint_of(trainer), model, data) as (twin, copy):
        run = twin.run(copy, data, reading, validation=None, validate=None, limits=None)
        try:
            if len(run.optimizers) > 1:
                raise ArgumentValueError(
                    f"find_learning_rate moves the rate of one optimizer, and the trainer has {len(run.optimizers)}: "
                    f"{', '.join(map(repr, run.optimizers))}. Give it a Trainer with the one that matters."
                )
            return judged(*_ramp(run, low, high, number, limit))
        finally:
            run.close()


def _ramp(
    run: Run[Any, Any], low: float, high: float, number: int, limit: float
) -> tuple[list[float], list[float], list[float], str]:
    """Make updates at growing rates; return the rates, the losses, the smoothed losses and why it ended."""
    rates = [low * (high / low) ** (place / (number - 1)) for place in range(number)]
    losses: list[float] = []
    smoothed: list[float] = []
    ratios = _ratios(run.optimizer)
    _set(run.optimizer, ratios, rates[0])
    reason = f"all {number} updates were made"
    average = 0.0
    try:
        with contextlib.closing(events(run, max_updates=number)) as happening:
            for event in (event for event in happening if isinstance(event, Stepped)):
                losses.append(event.loss.item())
                average = SMOOTH * average + (1 - SMOOTH) * losses[-1]
                smoothed.append(average / (1 - SMOOTH ** len(losses)))  # without a pull to the 0 that it began with
                if smoothed[-1] - smoothed[0] > (limit - 1) * abs(smoothed[0]):
                    reason = f"the loss grew to more than {limit:g} times its first value"
                    break
                if len(losses) < number:
                    _set(run.optimizer, ratios, rates[len(losses)])
    except NonFiniteError:
        reason = "the loss or a gradient was not finite any more"
    return rates[: len(losses)], losses, smoothed, reason


def _ratios(optimizer: Optimizer) -> list[float]:
    """Return the rate of every group over that of the first one."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    return [rate / rates[0] if rates[0] else 1.0 for rate in rates]


def _set(optimizer: Optimizer, ratios: list[float], rate: float) -> None:
    for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * ratio)
        else:
            group["lr"] = rate * ratio
