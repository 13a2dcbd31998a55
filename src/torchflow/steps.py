"""Several steps, each with a loss and an optimizer of its own, as one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic

import torch
from torch import Tensor

from torchflow.arguments import function, shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError, StepError
from torchflow.precision import under
from torchflow.step import Outputs, Step, checked_loss
from torchflow.tree import samples_in
from torchflow.types import B, M, Metric
from torchflow.weighted_mean import Weighed


class Steps(Generic[M, B]):
    """Several steps by name, in the order in which an update takes them.

    Called as one step, as evaluation does, it gives the sum of their losses, every loss under the name of its step, and their
    metrics, each weighed by the count of its own step.

    Args:
        steps: The steps by the names of their optimizers.

    Attributes:
        steps: The steps.
        metrics: The metric objects of all steps.
    """

    __slots__ = ("metrics", "steps")

    def __init__(self, steps: Mapping[str, Step[M, B]]) -> None:
        self.steps = dict(steps)
        owners: dict[str, str] = {}
        self.metrics: dict[str, Metric] = {}
        for name, step in self.steps.items():
            objects: Mapping[str, Metric] = getattr(step, "metrics", {})
            refuse_second(name, objects, self.steps, owners)
            self.metrics |= objects

    def __call__(self, model: M, batch: B, /) -> Outputs:
        """Return what all steps give for one batch."""
        made: dict[str, Outputs] = {}
        owners: dict[str, str] = {}
        for name, step in self.steps.items():
            with named(name):
                made[name] = checked_loss(step(model, batch), training=False)
                refuse_second(name, made[name].metrics, self.steps, owners)
        samples = samples_in(batch)
        counts = {name: samples if outputs.count is None else outputs.count for name, outputs in made.items()}
        predictions = {name: outputs.predictions for name, outputs in made.items() if outputs.predictions is not None}
        return Outputs(
            loss=summed([outputs.loss for outputs in made.values()]),
            count=next(iter(counts.values())),
            metrics=merged({name: (outputs.loss.detach(), counts[name], outputs.metrics) for name, outputs in made.items()}),
            predictions=next(iter(predictions.values())) if len(predictions) == 1 else predictions or None,
        )

    def mapped(self, change: Callable[[Step[M, B]], Step[M, B]]) -> Steps[M, B]:
        """Return the same steps, each with a change, and the same metrics."""
        made: Steps[M, B] = Steps({name: change(step) for name, step in self.steps.items()})
        made.metrics = self.metrics
        return made

    def under(self, precision: str, device: torch.device) -> Steps[M, B]:
        """Return the steps under a precision."""
        return self.mapped(lambda step: under(step, precision, device))


def losses_of(step: object) -> tuple[str, ...]:
    """Return the names of a step's losses where it has several, otherwise nothing."""
    return tuple(step.steps) if isinstance(step, Steps) else ()


def checked_step(step: Any, optimizer: object) -> Any:
    """Return a step, or several as one.

    Args:
        step: What the user gave as the step.
        optimizer: What the user gave as the optimizer: of several steps, a mapping of the same names.

    Raises:
        ArgumentTypeError: A step is no function, or several meet one optimizer.
        ArgumentValueError: A mapping has a name that says nothing, other names than the optimizers, or fewer than two steps.
    """
    if not isinstance(step, Mapping):
        return _function("step", step)
    example = "Trainer({'critic': ..., 'generator': ...}, optimizer={'critic': ..., 'generator': ...})"
    for name in step:
        if not isinstance(name, str) or not name or "/" in name or name == "loss":
            raise ArgumentValueError(f"a step's name must be text without '/' and other than 'loss', got {shown(name)}.")
    if isinstance(optimizer, Mapping) and step and set(optimizer) != set(step):
        raise ArgumentValueError(
            f"every step needs an optimizer of its name: steps are {', '.join(map(repr, step))}, and optimizers "
            f"{', '.join(map(repr, optimizer)) or 'none'}. Write {example}."
        )
    if len(step) < 2:
        raise ArgumentValueError(
            f"a mapping of steps needs at least two, got {len(step)}. Pass one step itself, or write {example}."
        )
    if not isinstance(optimizer, Mapping):
        raise ArgumentTypeError(
            f"step is a mapping, so optimizer must be one of the same names, got {shown(optimizer)}. Write {example}."
        )
    return Steps({name: _function(f"step[{name!r}]", one) for name, one in step.items()})


def _function(name: str, step: object) -> Any:
    if isinstance(step, (torch.nn.Module, type)):
        raise ArgumentTypeError(f"{name} must be a function (model, batch) -> loss, got {shown(step)}. Write supervised(loss).")
    return function(name, step, hint="Write supervised(nn.MSELoss()), or a function (model, batch).")


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say in whose step an error was raised."""
    try:
        yield
    except Exception as error:
        error.add_note(f"torchflow: in the step {name!r}")
        raise


def refuse_second(name: str, metrics: Mapping[str, object], steps: Mapping[str, object], owners: dict[str, str]) -> None:
    """Refuse metrics of a step whose names are taken, and note the others as its own.

    Raises:
        StepError: A metric has the name of a step, or another step has one of its name.
    """
    for metric in metrics:
        if metric in steps:
            raise StepError(
                f"step {name!r} has a metric {metric!r}, and this is the name of a step, whose loss it is. Rename the metric."
            )
        if owners.setdefault(metric, name) != name:
            raise StepError(f"steps {owners[metric]!r} and {name!r} both have a metric {metric!r}. Rename one.")


def merged(
    made: Mapping[str, tuple[Tensor, int | Tensor, Mapping[str, Tensor | tuple[Any, ...]]]],
) -> dict[str, Tensor | tuple[Any, ...]]:
    """Return the metrics of all steps together, the losses among them; what is a mean keeps the count of its own step.

    Args:
        made: By step: its loss, detached, what the loss is the mean of, and the metrics.
    """
    together: dict[str, Tensor | tuple[Any, ...]] = {name: Weighed(loss, count) for name, (loss, count, _) in made.items()}
    for _, count, metrics in made.values():
        for name, value in metrics.items():
            together[name] = Weighed(value, count) if isinstance(value, Tensor) and not value.ndim else value
    return together


def summed(losses: list[Tensor]) -> Tensor:
    """Return the sum of losses, shape ()."""
    return sum(losses[1:], losses[0])
