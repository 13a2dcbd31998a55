"""Recipes over torch's optimizers and schedulers: learning rates by layer, and rates that follow the length of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from torchflow.arguments import real, shown, whole, whole_or_none
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.events import Plan
from torchflow.intervals import Every
from torchflow.names import matches, plain_name
from torchflow.schedule import Schedule


def layer_wise(
    model: nn.Module, lr: float, decay: float = 0.9, *, layers: Sequence[str | Sequence[str]] | None = None
) -> list[dict[str, Any]]:  # as torch's optimizers take them
    """Return parameter groups whose learning rates fall from the output to the input: ``lr * decay ** (layers above)``.

    For ``optimizer=lambda model: torch.optim.AdamW(layer_wise(model, 1e-3))``. Known as discriminative fine-tuning (Howard and
    Ruder, 2018, arXiv:1801.06146, section 3.1) and as layer-wise learning rate decay.

    Args:
        model: The model.
        lr: The learning rate of the last layer, the one next to the output.
        decay: The ratio between the learning rates of one layer and the next above it, above 0 and at most 1.
        layers: The layers from the input to the output, each a pattern, or a list of patterns, of names as in
            ``model.named_parameters()``; a parameter belongs to the first that matches. By default the model's own children in
            their order; of a model with a single child, that child's.

    Returns:
        One group for each layer with parameters, from the input to the output: ``{"params": [...], "lr": ...}``.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: ``lr`` or ``decay`` is impossible, a layer matches nothing, or a parameter is in no layer.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> [round(group["lr"], 3) for group in layer_wise(model, lr=0.1, decay=0.5)]
    [0.025, 0.05, 0.1]
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"model must be an nn.Module, got {shown(model)}.")
    real("lr", lr, minimum=0.0)
    if real("decay", decay, above=0.0) > 1.0:
        raise ArgumentValueError(f"decay must be at most 1: the last layer has the highest learning rate, got {decay}.")
    if isinstance(layers, str):
        raise ArgumentTypeError(f"layers must be a list of layers such as ['embedding', 'encoder.*', 'head'], got {shown(layers)}.")
    named = list(model.named_parameters())
    parts = [_patterns(layer) for layer in layers] if layers is not None else _children(model)
    groups: list[list[nn.Parameter]] = [[] for _ in parts]
    for name, parameter in named:
        number = next((n for n, part in enumerate(parts) if any(matches(name, pattern) for pattern in part)), None)
        if number is None:
            raise ArgumentValueError(f"layer_wise: no layer holds the parameter {plain_name(name)!r}. Name it in layers=[...].")
        groups[number].append(parameter)
    if layers is not None and [] in groups:
        raise ArgumentValueError(
            f"layer_wise: layers[{groups.index([])}] ({', '.join(map(repr, parts[groups.index([])]))}) holds no parameter that an "
            "earlier layer does not hold. Names are those of model.named_parameters()."
        )
    filled = [group for group in groups if group]
    return [{"params": group, "lr": lr * decay ** (len(filled) - 1 - number)} for number, group in enumerate(filled)]


class HalfCosine(CosineAnnealingLR):
    """torch's ``CosineAnnealingLR``, which stays at its lowest rate after its last step instead of going up again."""

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group."""
        return super().get_lr() if self.last_epoch <= self.T_max else [self.eta_min] * len(self.optimizer.param_groups)


def warm_up_cosine(warm_up: int | float = 0.05, *, lowest: float = 0.0, updates: int | None = None) -> Schedule:
    """Return a schedule that rises in a straight line and falls along half a cosine (Loshchilov and Hutter, 2017, arXiv:1608.03983).

    It is made of torch's ``LinearLR`` and ``CosineAnnealingLR`` and steps after every update. The learning rates of the optimizer,
    each group's own, are the highest.

    Args:
        warm_up: Updates of the rise (an int), or their share of all (a float from 0 up to below 1). The first update has the
            highest rate divided by the updates of the rise.
        lowest: The learning rate at the end, the same for every group; a run that goes on after the last of ``updates`` stays there.
        updates: All updates of the schedule; None takes them from the length of the run and its data, which a resume must then leave as
            they are.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: An argument has an impossible value; at the start of a run: its length is unknown, or there is no
            update left to fall.
    """
    _refuse_optimizer("warm_up_cosine", warm_up)
    if isinstance(warm_up, float):
        if not 0.0 <= warm_up < 1.0:
            raise ArgumentValueError(f"warm_up must be a share from 0 up to below 1, or an int of updates, got {warm_up}.")
    else:
        whole("warm_up", warm_up, minimum=0, hint="Or a share of all updates, such as 0.05.")
    real("lowest", lowest, minimum=0.0)
    whole_or_none("updates", updates)

    def recipe(optimizer: Optimizer, plan: Plan) -> LRScheduler:
        total = _updates("warm_up_cosine", updates, plan)
        rise = math.ceil(warm_up * total) if isinstance(warm_up, float) else warm_up
        if rise >= total:
            raise ArgumentValueError(
                f"warm_up_cosine: {rise} of {total} updates rise, and none is left to fall. Choose a shorter warm_up."
            )
        if rise < 2:
            return HalfCosine(optimizer, total, eta_min=lowest)
        linear = LinearLR(optimizer, 1.0 / rise, total_iters=rise - 1)
        return SequentialLR(optimizer, [linear, HalfCosine(optimizer, total - rise, eta_min=lowest)], milestones=[rise])

    return Schedule(recipe, every=Every(updates=1))


def one_cycle(
    highest: float | None = None,
    *,
    rise: float = 0.3,
    momentum: tuple[float, float] | None = None,
    updates: int | None = None,
) -> Schedule:
    """Return torch's ``OneCycleLR`` over all updates of the run (Smith and Topin, 2018, arXiv:1708.07120).

    Args:
        highest: The highest learning rate, of every group; None takes each group's own, as the optimizer was made with.
        rise: The share of the updates in which the rate rises, between 0 and 1.
        momentum: The lowest and the highest momentum, which moves against the rate; None leaves momentum as it is.
        updates: All updates of the run; None takes them from the length of the run and its data.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: An argument has an impossible value; at the start of a run: its length is unknown, or too short.
    """
    _refuse_optimizer("one_cycle", highest)
    if highest is not None:
        real("highest", highest, above=0.0)
    if real("rise", rise, above=0.0) >= 1.0:
        raise ArgumentValueError(f"rise must be a share between 0 and 1, got {rise}.")
    if momentum is not None and not (isinstance(momentum, tuple) and len(momentum) == 2):
        raise ArgumentTypeError(f"momentum must be a tuple (lowest, highest) such as (0.85, 0.95), got {shown(momentum)}.")
    low, high = (0.85, 0.95) if momentum is None else (real("momentum", value, minimum=0.0) for value in momentum)
    whole_or_none("updates", updates)

    def recipe(optimizer: Optimizer, plan: Plan) -> LRScheduler:
        total = _updates("one_cycle", updates, plan)
        if rise * total < 2.0 or (1.0 - rise) * total < 1.0:
            raise ArgumentValueError(f"one_cycle: {total} updates are too few to rise for {rise:g} of them. Train for longer.")
        peaks = [group["lr"] for group in optimizer.param_groups] if highest is None else highest
        return OneCycleLR(
            optimizer,
            peaks,
            total_steps=total,
            pct_start=rise,
            cycle_momentum=momentum is not None,
            base_momentum=low,
            max_momentum=high,
        )

    return Schedule(recipe, every=Every(updates=1))


def _refuse_optimizer(name: str, given: object) -> None:
    """Say that a function that makes a schedule was given to the trainer in place of what it makes."""
    if isinstance(given, Optimizer):
        raise ArgumentTypeError(
            f"{name} makes a schedule, and was called with the optimizer. Write scheduler={name}(), with its arguments."
        )


def _updates(name: str, given: int | None, plan: Plan) -> int:
    """Return how many updates a run has."""
    total = plan.updates if given is None else given
    if total is None:
        raise ArgumentValueError(
            f"{name} needs to know how many updates the run has. Pass epochs= or max_updates= to fit, with data that has a length, "
            f"or {name}(updates=...)."
        )
    return total


def _patterns(layer: object) -> tuple[str, ...]:
    patterns = (layer,) if isinstance(layer, str) else layer
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise ArgumentTypeError(f"layers must be names or patterns such as ['embedding', 'encoder.*', 'head'], got {shown(layer)}.")
    return tuple(patterns)


def _children(model: nn.Module, prefix: str = "") -> list[tuple[str, ...]]:
    """Return the names of a model's children, from where there are several on; its own parameters are the first layer."""
    children = [name for name, child in model.named_children() if any(True for _ in child.parameters())]
    own = [f"{prefix}{name}" for name, _ in model.named_parameters(recurse=False)]
    if len(children) == 1 and not own:
        return _children(model.get_submodule(children[0]), f"{prefix}{children[0]}.")
    layers = [*([own] if own else []), *([f"{prefix}{name}"] for name in children)]
    return [tuple(map(plain_name, names)) for names in layers]
