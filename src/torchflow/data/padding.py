"""Batches of samples that differ in length: padded to the longest, with a mask that says what is real."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.collate import collate
from torchflow.data.fields import checked_field, part_of, with_part
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, RaggedBatchError, StepError

Place = int | str | None


class Padded(NamedTuple):
    """One part of a batch whose samples differ in length.

    Attributes:
        values: The samples, filled up behind their ends to one length: (batch, ..., longest, ...).
        mask: bool, shape (batch, longest): True where a step is real.
    """

    values: Tensor
    mask: Tensor

    @property
    def lengths(self) -> Tensor:
        """The number of real steps of each sample, as int64 of shape (batch,)."""
        return self.mask.sum(1)


@dataclass(frozen=True)
class PadBatch:
    """Put samples of unequal lengths together to one batch: pass it as ``collate=`` to ``fit``, ``evaluate`` and ``predict``.

    Each part that it names becomes a :class:`Padded`; the others are put together as by :func:`torchflow.data.collate`.

    >>> from torchflow.data import PadBatch
    >>> batch, labels = PadBatch()([(torch.ones(2), 0), (torch.ones(3), 1)])
    >>> batch.values.tolist(), batch.mask.tolist(), batch.lengths.tolist()
    ([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [[True, True, False], [True, True, True]], [2, 3])

    Args:
        parts: The parts to pad, and what each is filled up with: ``{0: 0.0, 1: -100}`` pads inputs and targets. A part is a
            position in a tuple, a key of a dict, an attribute, or None for the sample itself.
        axis: The dimension of a sample's part that is its length: the last one, for sound and for text; 0 for frames of a film.
        length: Pad to this length instead of that of the longest sample; a longer sample is an error.
        multiple: Round the length up to a multiple, so that fewer shapes occur.
    """

    parts: Mapping[Place, float] = field(default_factory=lambda: {0: 0.0})
    axis: int = -1
    length: int | None = None
    multiple: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.parts, Mapping) or not self.parts:
            raise ArgumentTypeError(f"parts must be a mapping such as {{0: 0.0}}, got {arguments.shown(self.parts)}.")
        for place, value in self.parts.items():
            checked_field(place)
            arguments.real(f"parts[{place!r}]", value)
        if None in self.parts and len(self.parts) > 1:
            raise ArgumentValueError("parts names None, the sample itself, beside parts of it. Name one or the others.")
        if isinstance(self.axis, bool) or not isinstance(self.axis, int):
            raise ArgumentTypeError(f"axis must be an int, got {arguments.shown(self.axis)}.")
        arguments.whole_or_none("length", self.length)
        arguments.whole("multiple", self.multiple)

    # A batch has the structure of its samples, whatever that is.
    def __call__(self, samples: Sequence[Any]) -> Any:
        """Return the batch of some samples.

        Raises:
            RaggedBatchError: Samples differ in more than the length, or one is longer than ``length``.
            DataError: A part that is to be padded is no tensor with that axis.
        """
        if not samples:
            raise DataError("PadBatch got no samples: a batch needs at least one.")
        padded = {place: self._padded([part_of(s, place) for s in samples], place, fill) for place, fill in self.parts.items()}
        if None in padded:
            return padded[None]
        stubs = list(samples)
        for place in padded:
            stubs = [with_part(sample, place, 0) for sample in stubs]
        batch = collate(stubs)
        for place, part in padded.items():
            batch = with_part(batch, place, part)
        return batch

    def _padded(self, tensors: list[Any], place: Place, fill: float) -> Padded:
        """Return one part of every sample, padded."""
        for number, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor) or not -tensor.ndim <= self.axis < tensor.ndim:
                found = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else arguments.shown(tensor)
                raise DataError(
                    f"PadBatch needs a tensor with dimension {self.axis} at {_said(place)}, got {found} in sample {number}."
                )
        first = tensors[0]
        axis = self.axis % first.ndim
        for number, tensor in enumerate(tensors):
            if _rest(tensor, axis) != _rest(first, axis) or tensor.dtype != first.dtype:
                raise RaggedBatchError(
                    f"samples 0 and {number} of a batch cannot be padded: {_said(place)} has {tuple(first.shape)} {first.dtype} in one and "
                    f"{tuple(tensor.shape)} {tensor.dtype} in the other, and only dimension {axis} may differ. Make them equal in a map."
                )
        lengths = torch.tensor([tensor.shape[axis] for tensor in tensors])
        longest = self._longest(lengths, place)
        shape = [len(tensors), *first.shape]
        shape[axis + 1] = longest
        values = torch.full(shape, fill, dtype=first.dtype, device=first.device)
        for row, tensor in zip(values, tensors, strict=True):
            row.narrow(axis, 0, tensor.shape[axis]).copy_(tensor)
        mask = torch.arange(longest)[None, :] < lengths[:, None]
        return Padded(values, torch.as_tensor(mask, device=first.device))

    def _longest(self, lengths: Tensor, place: Place) -> int:
        """Return the length that all samples of a batch are padded to."""
        found = int(lengths.max())
        if self.length is not None and found > self.length:
            raise RaggedBatchError(
                f"sample {int(lengths.argmax())} of a batch has {found} steps at {_said(place)}, more than PadBatch(length={self.length}). "
                "Cut such samples in a map, or raise length."
            )
        wanted = found if self.length is None else self.length
        return -(-wanted // self.multiple) * self.multiple


class MaskedLoss:
    """A loss over the real steps of padded targets, for :func:`torchflow.supervised`: what was filled up counts nowhere.

    The loss is the mean over all real steps of a batch, and the batch's count is their number, so that averages over
    batches and accumulated gradients are the means over all real steps of the data, however the samples fell into batches.

    Args:
        loss: A loss of torch with ``reduction="none"``, or a function from predictions and target values to a loss for each
            step: shape (batch, longest), or with dimensions between or behind, over which it is averaged.
        axis: The dimension of the loss that is the length: 1 for (batch, longest, ...), -1 for (batch, ..., longest).
    """

    # Predictions are what the model and the loss agree on: a tensor, or several.
    def __init__(self, loss: Callable[[Any, Tensor], Tensor], axis: int = -1) -> None:
        self._loss = arguments.function("loss", loss)
        if getattr(loss, "reduction", "none") != "none":
            raise ArgumentValueError(f'MaskedLoss needs a loss for each step: {type(loss).__name__}(reduction="none").')
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ArgumentTypeError(f"axis must be an int, got {arguments.shown(axis)}.")
        self._axis = axis

    # Predictions as in the constructor.
    def __call__(self, predictions: Any, targets: Padded) -> Tensor:
        """Return the mean of the loss over the real steps, shape ().

        Raises:
            StepError: The targets are not padded, or the loss has no value for each step.
        """
        if not isinstance(targets, Padded):
            raise StepError(f"MaskedLoss needs targets that PadBatch padded, got {arguments.shown(type(targets).__name__)}.")
        value = self._loss(predictions, targets.values)
        ndim = value.ndim if isinstance(value, Tensor) else 0
        axis = self._axis % ndim if -ndim <= self._axis < ndim else 0
        if ndim < 2 or not axis or (len(value), value.shape[axis]) != tuple(targets.mask.shape):
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else arguments.shown(value)
            remedy = 'Give the loss reduction="none", and MaskedLoss the axis of the length.'
            raise StepError(
                f"the loss of each step needs a shape (batch, ..., longest) = {tuple(targets.mask.shape)}, got {found}. {remedy}"
            )
        steps = value.movedim(axis, 1).flatten(2).mean(2) if ndim > 2 else value
        zero = torch.zeros((), dtype=steps.dtype, device=steps.device)
        return torch.where(targets.mask, steps, zero).sum() / targets.mask.sum().clamp(min=1)

    # Predictions as in the constructor.
    def count(self, predictions: Any, targets: Padded) -> Tensor:
        """Return how many steps are real: int64, shape ()."""
        return targets.mask.sum()


def _rest(tensor: Tensor, axis: int) -> tuple[int, ...]:
    """Return a shape without one dimension, and with the number of dimensions."""
    return (tensor.ndim, *tensor.shape[:axis], *tensor.shape[axis + 1 :])


def _said(place: Place) -> str:
    return "the sample" if place is None else f"the part {place!r}"
