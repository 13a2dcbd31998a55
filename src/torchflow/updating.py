"""How an update is made: forward, backward, weighing by counts, clipping, the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchflow.averages import kept_metrics
from torchflow.errors import NonFiniteError
from torchflow.events import Gradients
from torchflow.microbatching import gradients_in_pieces
from torchflow.mistakes import looked_at, warn_of_full_precision
from torchflow.optimizer_steps import optimizer_step
from torchflow.precision import Scaling, clip, divide
from torchflow.run import Run
from torchflow.step import Outputs, checked_loss
from torchflow.tree import samples_in
from torchflow.types import B, M
from torchflow.weighted_mean import MetricMeans


class Counted(NamedTuple):
    """What a step gave for one batch."""

    metrics: Mapping[str, Tensor | tuple[Any, ...]]
    """As in ``Outputs.metrics``, detached: nobody writes to them again."""
    loss: Tensor
    """Its loss, detached."""
    weight: int | Tensor
    """How many samples the loss is the mean of."""
    samples: int
    """How many samples the batch has."""


class NotFinite(Exception):  # noqa: N818  (a signal between two functions of the loop, never an error that a user sees)
    """The update at hand has a loss or a gradient that is not finite; nothing has been changed yet."""

    def __init__(self, parts: list[Counted], what: str) -> None:
        super().__init__(what)
        self.parts = parts
        self.stepped: tuple[str, ...] = ()  # of several steps, those that had been taken by then
        self.overflow = False  # of float16, where a smaller factor of the loss may help


def forward(run: Run[M, B], batch: B, shard: int | None) -> tuple[Counted, Tensor]:
    """Run the step on one batch, on the random stream of this update and shard, or where that stands; return its loss with its graph, too."""
    if shard is not None:
        run.randomness.seed(run.progress.updates, shard, run.accelerator)
    outputs = checked_loss(run.step(run.model, batch), training=True) if run.looked else looked_at(run, batch)
    if outputs.metrics:
        run.averages.refuse_unknown(outputs.metrics)
    samples = samples_in(batch)
    return counted(outputs, samples), outputs.loss


def counted(outputs: Outputs, samples: int) -> Counted:
    """Return what is kept of an update's outputs: neither a graph nor the predictions."""
    metrics = kept_metrics(outputs.metrics) if outputs.metrics else outputs.metrics
    return Counted(metrics, outputs.loss.detach(), samples if outputs.count is None else outputs.count, samples)


def gradients(run: Run[M, B], batches: Sequence[B]) -> list[Counted]:
    """Leave the gradient of the mean over all samples of the window in the parameters.

    One batch is plain ``loss.backward()``. Of several, each loss goes backward times its count, and the sum is divided by
    the total count once: the mean of unequal batches' means would be another loss.
    """
    if len(batches) == 1:
        part, loss = forward(run, batches[0], 0)
        run.backward(loss)
        return [part]
    parts: list[Counted] = []
    for shard, batch in enumerate(batches):
        part, loss = forward(run, batch, shard)
        run.backward(loss * part.weight)
        parts.append(part)
    divide((p.grad for p in run.parameters if p.grad is not None), total_count(parts))
    return parts


def _gradients(run: Run[M, B], batches: Sequence[B]) -> list[Counted]:
    """Leave the gradient in the parameters, of whole batches or of their pieces."""
    return gradients(run, batches) if run.microbatches is None else gradients_in_pieces(run, batches, gradients, forward)


def standard_update(run: Run[M, B], batches: Sequence[B]) -> list[Counted]:
    """Make one step of every optimizer from the gradients of one window.

    Raises:
        NotFinite: The loss or a gradient is not finite; no parameter has been changed.
    """
    if run.by_closure:
        return _update_by_closure(run, batches)
    parts = _gradients(run, batches)
    if run.scaling is None:
        prepare(run, parts)
    else:
        _unscale_and_prepare(run, run.scaling, parts)
    for optimizer in run.optimizers.values():
        optimizer_step(optimizer)
    return parts


def _unscale_and_prepare(run: Run[Any, Any], scaling: Scaling, parts: list[Counted]) -> None:
    """Prepare gradients of scaled losses; an overflow is expected now and then, and lowers the factor.

    What callbacks see of it in ``on_gradients`` is unscaled and finite. Where the loss is not finite, or gradients are not
    at a factor of 1, scaling is not why, and the run's policy decides; only if it skips, the factor is lowered too.
    """
    scaling.unscale(run.optimizers.values())
    try:
        prepare(run, parts)
    except NotFinite as found:
        found.overflow = found.args[0] == "a gradient" and scaling.excessive
        if found.overflow or run.choices.nonfinite == "skip":
            scaling.adjust()
        raise
    scaling.adjust()


def prepare(run: Run[Any, Any], parts: list[Counted], step: str | None = None) -> None:
    """Refuse what is not finite, clip, and show the gradients to the callbacks; they are those of one step where it has a name."""
    for part in parts:
        if not math.isfinite(part.loss.item()):
            raise NotFinite(parts, "the loss")
    # Without a norm the gradients are looked at before they are clipped: clipping by value turns an infinity into a number.
    if run.choices.clip_norm is None and not run.all_finite([p.grad for p in run.parameters if p.grad is not None]):
        raise NotFinite(parts, "a gradient")
    norm = _clipped(run) if run.choices.clips else None
    if norm is not None and not math.isfinite(norm.item()):
        raise NotFinite(parts, "a gradient")
    if run.reactions.has("on_gradients"):
        run.reactions("on_gradients", run, Gradients(run.progress, norm, step))


def _clipped(run: Run[Any, Any]) -> Tensor | None:
    """Clip the gradients; return their norm before, where they are clipped by it."""
    return clip([p for p in run.parameters if p.grad is not None], run.choices.clip_norm, run.choices.clip_value)


def dropped(run: Run[M, B], found: NotFinite, batches: Sequence[B]) -> list[Counted]:
    """Act on an update that is not finite as the run's policy says; returns its parts where it is skipped.

    Raises:
        NonFiniteError: The policy is "raise".
    """
    if run.choices.nonfinite == "skip" or found.overflow:
        run.randomness.check()
        run.randomness.probe()  # on_gradients was not called: whether it draws, a later update shows
        return found.parts
    at = run.progress
    indices = [
        index for number in range(at.batch, at.batch + len(batches)) for index in run.batches.indices(at.epoch, number) or []
    ]
    samples = f", samples {', '.join(map(str, indices[:8]))}{', …' if len(indices) > 8 else ''}" if indices else ""
    besides = f", but for those of {' and '.join(map(repr, found.stepped))}, which had stepped" if found.stepped else ""
    raise NonFiniteError(
        f"{found} is not finite at epoch {at.epoch}, batch {at.batch}{samples} (update {at.updates}); the parameters are as they were "
        f"before it{besides}. Look for NaN in these samples, lower the learning rate, clip with clip_norm=1.0, or drop such updates with "
        "nonfinite='skip'."
    ) from None


def _update_by_closure(run: Run[M, B], batches: Sequence[B]) -> list[Counted]:
    """Let L-BFGS evaluate the window as often as it wants, each time on the same random streams.

    The checks and the hook belong to the first evaluation: it is the gradient at the parameters as they are.
    """
    first: list[list[Counted]] = []

    def closure() -> Tensor:
        for parameter in run.parameters:
            parameter.grad = None
        parts = _gradients(run, batches)
        if first:
            _clipped(run)
        else:
            first.append(parts)
            prepare(run, parts)
        return mean_loss(parts)

    optimizer_step(run.optimizer, closure)
    return first[0]


def custom_update(run: Run[M, B], batches: Sequence[B]) -> list[Counted]:
    """Let the user's own function make the update, on the random stream of its first shard.

    Raises:
        NonFiniteError: The loss that it returned is not finite; by then its optimizers have stepped.
    """
    assert run.custom_update is not None
    run.randomness.seed(run.progress.updates, 0, run.accelerator)
    outputs = checked_loss(run.custom_update(run, batches), training=False)
    if not run.looked:
        warn_of_full_precision(run)
    samples = sum(samples_in(batch) for batch in batches)
    if not math.isfinite(outputs.loss.item()):
        raise NonFiniteError(
            f"update= returned a loss that is not finite after update {run.progress.updates}. Its optimizers have stepped already, "
            "so nothing can be skipped: check the loss before you step."
        )
    return [counted(outputs, samples)]


def total_count(parts: list[Counted]) -> int | Tensor:
    """Return how many samples the loss of a window is the mean of."""
    return parts[0].weight if len(parts) == 1 else sum(part.weight for part in parts)


def mean_loss(parts: list[Counted]) -> Tensor:
    """Return the mean loss over the samples of a window, shape (), detached."""
    if len(parts) == 1:
        return parts[0].loss
    return torch.stack([part.loss * part.weight for part in parts]).sum() / total_count(parts)


def mean_metrics(parts: list[Counted]) -> Mapping[str, Tensor]:
    """Return the means of the metrics over the samples of a window, each of shape (), detached."""
    return MetricMeans([(part.metrics, part.weight) for part in parts]) if any(part.metrics for part in parts) else {}
