"""How an optimizer steps, without what torch wraps around its own classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchflow.errors import ArgumentValueError


def needs_closure(optimizer: Optimizer) -> bool:
    """Say whether an optimizer evaluates the loss itself, several times a step, as L-BFGS does."""
    return isinstance(optimizer, torch.optim.LBFGS)


def refuse_unfit_for_closures(optimizers: Mapping[str, Optimizer]) -> None:
    """Refuse what L-BFGS cannot work with, where one of the optimizers is it.

    Raises:
        ArgumentValueError: It stands beside another one, or holds a parameter in channels_last.
    """
    closing = [optimizer for optimizer in optimizers.values() if needs_closure(optimizer)]
    if not closing:
        return
    if len(optimizers) > 1:
        raise ArgumentValueError(
            "L-BFGS evaluates the loss itself and cannot share an update with other optimizers. Pass update=..."
        )
    for parameter in (p for group in closing[0].param_groups for p in group["params"]):
        if not parameter.is_contiguous():
            raise ArgumentValueError(
                f"L-BFGS takes every gradient as one row, and a parameter of shape {tuple(parameter.shape)} does not lie in its own order: "
                "memory_format='channels_last' lays weights of convolutions out otherwise. Leave memory_format out, or pass another optimizer."
            )


def optimizer_step(optimizer: Optimizer, closure: Callable[[], Tensor] | None = None) -> None:
    """Let an optimizer make its step.

    torch wraps the ``step`` of its own classes in a profiler's record, hooks and a gradient mode, which cost as much as a
    small step itself. Where none of them has anything to do, the method inside is called; everything else takes the public way.
    """
    if closure is not None:
        # Optimizer.step is annotated for closures that return a float; L-BFGS itself calls float() on the result.
        optimizer.step(closure)  # type: ignore[arg-type]
        return
    plain = _plain_steps.get(type(optimizer))
    if plain is None or not _is_bare(optimizer):
        optimizer.step()
        return
    with torch.no_grad():
        plain(optimizer)


def undecorated_step(kind: type[Optimizer]) -> Callable[[Optimizer], object]:
    """Return the ``step`` of an optimizer's class as it was written, without what torch wraps around it."""
    step: Any = kind.step
    while hasattr(step, "__wrapped__"):
        step = step.__wrapped__
    return cast("Callable[[Optimizer], object]", step)


def _is_bare(optimizer: Optimizer) -> bool:
    """Say whether nobody hooked, patched or profiles this optimizer; a scheduler's patch only notes that it was called."""
    own: Any = optimizer  # its hooks are no part of torch's annotations
    patch = vars(optimizer).get("step")
    return not (
        own._optimizer_step_pre_hooks
        or own._optimizer_step_post_hooks
        or _before_all
        or _after_all
        or torch._C._autograd._profiler_enabled()
        or (patch is not None and not hasattr(patch, "_wrapped_by_lr_sched"))
        or optimizer.defaults.get("differentiable")
    )


def _stock_steps() -> dict[type[Optimizer], Callable[[Optimizer], object]]:
    """Return the undecorated steps of torch's own optimizers; none where this release has moved what they are guarded by."""
    if _before_all is None or _after_all is None or not hasattr(torch._C._autograd, "_profiler_enabled"):
        return {}
    kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type) and issubclass(kind, Optimizer)]
    return {kind: undecorated_step(kind) for kind in kinds if kind is not Optimizer}


# The hooks of every optimizer of the process; torch.optim deletes the name of the module that they live in.
_before_all, _after_all = (
    getattr(import_module("torch.optim.optimizer"), f"_global_optimizer_{when}_hooks", None) for when in ("pre", "post")
)
_plain_steps = _stock_steps()
