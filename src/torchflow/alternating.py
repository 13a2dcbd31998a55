"""An update of several steps: one after the other, each with its own loss and its own optimizer, as in adversarial training.

Every step sees the parameters as the steps before it have left them (Goodfellow et al., 2014, algorithm 1 with k = 1). Its
gradients are made for its own optimizer's parameters alone; those of other steps stay without any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from torchflow.errors import StepError
from torchflow.mistakes import looked_at
from torchflow.optimizer_steps import optimizer_step
from torchflow.precision import backward, divide
from torchflow.run import Run
from torchflow.step import Outputs, checked_loss
from torchflow.steps import Steps, merged, named, refuse_second, summed
from torchflow.tree import samples_in
from torchflow.types import B, M
from torchflow.updating import Counted, NotFinite, counted, custom_update, prepare, standard_update, total_count


def made_update(run: Run[M, B], batches: Sequence[B]) -> list[Counted]:
    """Make an update in the way that the run's choices say.

    Raises:
        NotFinite: A loss or a gradient is not finite; its optimizer and those after it have not stepped.
    """
    if run.custom_update is not None:
        return custom_update(run, batches)
    if isinstance(run.step, Steps):
        return alternating_update(run, run.step, batches)
    return standard_update(run, batches)


class Turn(NamedTuple):
    """One step within an update."""

    number: int
    """Its place in the order of the steps."""
    name: str
    step: Callable[[Any, Any], Tensor | Outputs]
    parameters: list[nn.Parameter]
    """What its optimizer trains at the moment; nothing, while all of it is frozen."""
    first: bool
    """Whether this is the first update, in which mistakes are looked for."""


def alternating_update(run: Run[M, B], steps: Steps[M, B], batches: Sequence[B]) -> list[Counted]:
    """Take every step in turn, each over all batches of the window.

    Raises:
        NotFinite: A loss or a gradient is not finite; its step and those after it were not taken.
    """
    made: dict[str, list[Counted]] = {}
    owners: dict[str, str] = {}
    first = not run.looked
    for number, (name, step) in enumerate(steps.steps.items()):
        optimizer = run.optimizers[name]
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        made[name] = parts = _gradients(run, Turn(number, name, step, parameters, first), batches)
        for part in parts:
            refuse_second(name, part.metrics, steps.steps, owners)
        try:
            prepare(run, parts, name)
        except NotFinite as found:
            found.args = (f"{found} of step {name!r}",)
            found.parts, found.stepped = _together(made), tuple(made)[:-1]
            raise
        optimizer_step(optimizer)
        for parameter in parameters:
            parameter.grad = None
    return _together(made)


def _gradients(run: Run[M, B], turn: Turn, batches: Sequence[B]) -> list[Counted]:
    """Leave a step's gradient of the mean over all samples of the window in its parameters, as ``updating.gradients`` does."""
    parts: list[Counted] = []
    for shard, batch in enumerate(batches):
        with named(turn.name):
            part, loss = _forward(run, turn, batch, shard)
            if turn.parameters:
                backward(loss if len(batches) == 1 else loss * part.weight, turn.parameters)
        parts.append(part)
    there = [p.grad for p in turn.parameters if p.grad is not None]
    if turn.first and turn.parameters and not there:
        raise StepError(
            f"the loss of step {turn.name!r} does not depend on any parameter of its optimizer, so it would train nothing. Look for .detach() in "
            "the step, and whether two names are exchanged."
        )
    if len(parts) > 1:
        divide(there, total_count(parts))
    return parts


def _forward(run: Run[M, B], turn: Turn, batch: B, shard: int) -> tuple[Counted, Tensor]:
    """Run one step on one batch, on a random stream that no other forward pass has."""
    run.randomness.seed(run.progress.updates, turn.number * run.choices.accumulate + shard, run.accelerator)
    training = bool(turn.parameters)
    if turn.first and training and not shard:
        outputs = looked_at(run, batch, turn.step)
    else:
        outputs = checked_loss(turn.step(run.model, batch), training=training)
    if outputs.metrics:
        run.averages.refuse_unknown(outputs.metrics)
    return counted(outputs, samples_in(batch)), outputs.loss


def _together(made: dict[str, list[Counted]]) -> list[Counted]:
    """Return for each batch what all steps gave: the sum of their losses, which counts as the first of them does."""
    return [
        Counted(
            merged({name: (part.loss, part.weight, part.metrics) for name, part in zip(made, parts, strict=True)}),
            summed([part.loss for part in parts]),
            parts[0].weight,
            parts[0].samples,
        )
        for parts in zip(*made.values(), strict=True)
    ]
