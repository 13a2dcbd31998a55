"""The user's mathematics: a step function from a model and a batch to a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from torchflow.arguments import function, shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError, StepError
from torchflow.loss_counts import class_count, mean_of
from torchflow.loss_mistakes import CLASSES, ELEMENTWISE, not_a_pair, refused, shapes_differ, weights_refused
from torchflow.tree import samples_in
from torchflow.types import B_contra, M, M_contra, Metric

MetricFunction: TypeAlias = Callable[[Any, Any], Tensor]
"""A function ``(predictions, targets)`` that gives one value a sample, shape (samples,)."""


@dataclass(slots=True)
class Outputs:
    """What a step returns where a bare loss does not say enough.

    Attributes:
        loss: The loss, shape (), the mean over ``count`` samples.
        count: How many samples or tokens the loss is the mean of, an int or a tensor of shape (). Every average is weighted
            by it. None means the samples of the batch.
        metrics: Values by name. A tensor of shape () is a mean over ``count``; one of shape (samples,) holds a value a
            sample; a tuple goes as arguments to the metric object of that name.
        predictions: What :meth:`torchflow.Trainer.predict` gathers: a tensor, or a tree of tensors, that begin with
            the batch dimension.
    """

    loss: Tensor
    count: int | Tensor | None = None
    # Arguments of a metric object are what its mathematics needs.
    metrics: Mapping[str, Tensor | tuple[Any, ...]] = field(default_factory=dict)
    # Predictions are whatever the model gives: a tensor or a tree of them.
    predictions: Any = None


class Step(Protocol[M_contra, B_contra]):
    """A step function: any callable ``(model, batch) -> Tensor | Outputs``.

    A bare tensor is the loss, shape (), the mean over the samples of the batch.
    """

    def __call__(self, model: M_contra, batch: B_contra, /) -> Tensor | Outputs:
        """Return the loss of a batch."""
        ...


def supervised(
    loss: Callable[[Any, Any], Tensor],
    *,
    metrics: Mapping[str, MetricFunction | Metric] | None = None,
    forward: Callable[[Any, Any], Any] | None = None,
) -> Supervised[nn.Module]:  # predictions and targets are what the model and the loss agree on: tensors, or trees of them
    """Build the common step: ``loss(model(inputs), targets)`` for batches ``(inputs, targets)``.

    The loss is trained as a mean over what it counts, and the count is derived from it: the samples of the batch; for
    ``CrossEntropyLoss`` and ``NLLLoss`` the targets that are not ignored, or the sum of their class weights; for a loss with a method
    ``count(predictions, targets)``, such as :class:`torchflow.data.MaskedLoss`, what that returns. A loss with
    ``reduction="sum"`` or ``"none"`` is divided by its count, so that a learning rate means the same under every reduction.

    Args:
        loss: A loss of torch, or a function ``(predictions, targets) -> Tensor``.
        metrics: By name: functions ``(predictions, targets)`` that give one value a sample, shape (samples,), averaged
            exactly; or objects with ``update``, ``compute`` and ``reset``, such as torchmetrics'.
        forward: ``(model, inputs) -> predictions``, for models that give more than the loss takes, take several arguments, or
            are a ``ModuleDict``; None is ``model(inputs)``. :meth:`torchflow.Trainer.predict` calls the model so, too.

    Returns:
        A step function whose ``Outputs`` carry the predictions.

    Raises:
        ArgumentTypeError: ``loss``, ``forward`` or a metric cannot be called, or the loss has weights in whole numbers.
        ArgumentValueError: A metric's name is ``"loss"``, empty, or holds a slash.
    """
    if metrics is not None and not isinstance(metrics, Mapping):
        raise ArgumentTypeError(
            f"metrics must be a mapping from names to metrics, got {shown(metrics)}. "
            "Write metrics={'accuracy': torchflow.metrics.accuracy}."
        )
    return Supervised(loss, metrics or {}, forward)


class Supervised(Generic[M]):
    """The step that :func:`supervised` builds.

    Attributes:
        loss: The loss function.
        metrics: The metric objects by name; each stream (train, each validation) works on copies of its own.
        forward: How the model is called; None is ``model(inputs)``.
    """

    __slots__ = ("_count", "_functions", "_objects", "_reduction", "_same_shape", "forward", "loss", "metrics")

    def __init__(
        self,
        loss: Callable[[Any, Any], Tensor],
        metrics: Mapping[str, MetricFunction | Metric],
        forward: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        if isinstance(loss, type):
            raise ArgumentTypeError(
                f"loss must be an instance or a function, got the class {loss.__name__}. Write {loss.__name__}()."
            )
        if (why := weights_refused(loss)) is not None:
            raise ArgumentTypeError(why)
        self.loss = function("loss", loss, hint="Pass nn.MSELoss(), or a function (predictions, targets) -> Tensor.")
        hint = "Write forward=lambda model, inputs: model(inputs)[0]."
        self.forward = None if forward is None else function("forward", forward, hint=hint)
        self.metrics = {name: metric for name, metric in metrics.items() if _is_object(_checked(name, metric))}
        self._functions: dict[str, Callable[[Any, Any], Tensor]] = {
            name: metric for name, metric in metrics.items() if name not in self.metrics and callable(metric)
        }
        self._reduction = getattr(loss, "reduction", "mean")
        self._same_shape = isinstance(loss, ELEMENTWISE)
        self._count = class_count if isinstance(loss, CLASSES) else getattr(type(loss), "count", None)

    def __call__(self, model: nn.Module, batch: tuple[Any, Any], /) -> Outputs:
        """Return the loss, the count, the metrics and the predictions of one batch."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise StepError(not_a_pair(batch))
        inputs, targets = batch
        predictions = model(inputs) if self.forward is None else self.forward(model, inputs)
        if self._same_shape and predictions.shape != (shape := targets.shape):
            raise StepError(shapes_differ(self.loss, predictions, targets))
        try:
            value = self.loss(predictions, targets)
        except Exception as error:
            if (why := refused(self.loss, predictions, targets)) is not None:
                raise StepError(why) from error
            raise
        samples = shape[0] if self._same_shape and shape else samples_in(targets)
        count: int | Tensor = samples if self._count is None else self._count(self.loss, predictions, targets)
        if self._reduction != "mean" or value.ndim:
            value = mean_of(value, self._reduction, predictions.numel() if self._same_shape else count)
        if not self._functions and not self.metrics:
            return Outputs(value, count, {}, predictions)
        return Outputs(value, count, self._measured(predictions, targets, samples), predictions)

    def predictions(self, model: nn.Module, batch: Any, /) -> Any:
        """Return what the model predicts of a batch: of ``(inputs, targets)`` or ``(inputs,)``, else of the batch as it is."""
        inputs = batch[0] if isinstance(batch, (tuple, list)) and len(batch) in (1, 2) else batch
        return model(inputs) if self.forward is None else self.forward(model, inputs)

    def _measured(self, predictions: Any, targets: Any, samples: int) -> dict[str, Tensor | tuple[Any, ...]]:
        """Return a value a sample for each metric function, and the arguments of each metric object."""
        measured: dict[str, Tensor | tuple[Any, ...]] = {}
        with torch.no_grad():
            for name, metric in self._functions.items():
                values = metric(predictions, targets)
                if not isinstance(values, Tensor) or values.shape != (samples,):
                    found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                    raise StepError(
                        f"metric {name!r} must give one value a sample, shape ({samples},), got {found}. "
                        "Do not average inside it; an object with update, compute and reset can do anything else."
                    )
                measured[name] = values
        for name in self.metrics:
            measured[name] = (predictions, targets)
        return measured


def _is_object(metric: object) -> bool:
    return isinstance(metric, Metric)


def _checked(name: str, metric: object) -> object:
    if not isinstance(name, str) or not name or "/" in name or name == "loss":
        raise ArgumentValueError(f"a metric's name must be text without '/' and other than 'loss', got {shown(name)}.")
    if isinstance(metric, type):
        raise ArgumentTypeError(f"metric {name!r} must be an instance, got the class {metric.__name__}. Write {metric.__name__}().")
    if not _is_object(metric) and not callable(metric):
        raise ArgumentTypeError(
            f"metric {name!r} must be a function (predictions, targets) or an object with update, compute and reset, got {shown(metric)}."
        )
    return metric


def checked_loss(outputs: object, *, training: bool) -> Outputs:
    """Return what a step returned as ``Outputs`` with a sound loss.

    Raises:
        StepError: It is no scalar tensor, or, while training, has no gradient.
    """
    if not isinstance(outputs, Outputs):
        if not isinstance(outputs, Tensor):
            hint = " Return the tensor itself, not loss.item()." if isinstance(outputs, (int, float)) else ""
            if isinstance(outputs, (dict, tuple, list)):
                hint = " Return the loss alone, or Outputs(loss, metrics={...}, predictions=...)."
            raise StepError(f"step must return the loss as a Tensor, or Outputs, got {shown(outputs)}.{hint}")
        outputs = Outputs(outputs)
    loss = outputs.loss
    if not isinstance(loss, Tensor):
        raise StepError(f"Outputs.loss must be a Tensor, got {shown(loss)}.")
    if loss.ndim or loss.is_complex():
        raise StepError(
            f"the loss must be one real number, shape (), got shape {tuple(loss.shape)} of {loss.dtype}. Reduce it, for example with .mean()."
        )
    if outputs.count is not None:
        _check_count(outputs.count)
    if outputs.metrics:
        _check_metrics(outputs.metrics)
    if training and not loss.requires_grad:
        raise StepError(
            "the loss has no gradient: nothing that it was computed from requires one. Look for .detach(), .item(), torch.no_grad(), "
            "or parameters that are all frozen."
        )
    return outputs


def _check_count(count: object) -> None:
    whole = isinstance(count, (int, float)) and not isinstance(count, bool) and count >= 0
    if not whole and not (isinstance(count, Tensor) and not count.ndim):
        raise StepError(f"Outputs.count must be an int or a tensor of shape (), from 0 on, got {shown(count)}.")


def _check_metrics(metrics: Mapping[str, object]) -> None:
    """Refuse what cannot be averaged, before the update is made."""
    for name, value in metrics.items():
        if name == "loss":
            raise StepError("a metric's name must be other than 'loss', which is the loss's own. Rename it in Outputs.metrics.")
        if isinstance(value, Tensor):
            if value.ndim > 1:
                raise StepError(
                    f"metric {name!r} must have shape () or (samples,), got {tuple(value.shape)}. Average it within a sample."
                )
        elif not isinstance(value, tuple):
            raise StepError(
                f"Outputs.metrics[{name!r}] must be a tensor of shape () or (samples,), or a tuple of arguments of a metric object, "
                f"got {shown(value)}." + (" Give the tensor itself, not its .item()." if isinstance(value, (int, float)) else "")
            )
