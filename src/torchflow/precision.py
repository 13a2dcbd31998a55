"""Numbers: dtypes, gradients that are finite, clipping, and the optimizer's step. The only file that decides them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from torchflow.arguments import one_of

PRECISIONS = ("float32",)


def check_precision(precision: str) -> str:
    """Check a precision's name: ``"float32"`` computes in the dtypes of the model and the data, unchanged.

    Raises:
        ArgumentTypeError: It is no text.
        ArgumentValueError: It is none of the known names.
    """
    return one_of("precision", precision, PRECISIONS, hint="A float64 model and float64 data train in float64 under 'float32' too.")


def backward(loss: Tensor) -> None:
    """Add the gradients of a scalar loss to its leaves, as ``loss.backward()`` does.

    On the CPU, a plain tensor goes straight to the autograd engine: the public function spends a seventh of the smallest
    models' updates on choices that are already made here. Everything else takes the public way.
    """
    if type(loss) is Tensor and loss.is_cpu and _engine is not None and not torch._C._are_functorch_transforms_active():
        one = _ones.get(loss.dtype)
        if one is None:
            one = _ones[loss.dtype] = torch.ones((), dtype=loss.dtype)
        _engine.run_backward((loss,), (one,), False, False, (), allow_unreachable=True, accumulate_grad=True)
    else:
        torch.autograd.backward(loss)


# No annotation of torch's covers its engine; where a release moves it, backward() takes the public way.
_engine: Any = getattr(torch.autograd.Variable, "_execution_engine", None)
_ones: dict[torch.dtype, Tensor] = {}


def divide(gradients: Iterable[Tensor], total: float | Tensor) -> None:
    """Divide gradients by the count of a whole update, in place, once."""
    for gradient in gradients:
        gradient.div_(total)


class FiniteCheck:
    """Says whether every element of every gradient is finite.

    The check of torch's own GradScaler looks at all gradients in one call, a quarter of the cost of one sum a gradient on
    small models; it multiplies them by 1, which changes no bit. What it does not know (sparse gradients, several devices)
    is looked at one by one.

    Args:
        device: The device of the gradients.
    """

    __slots__ = ("_found", "_one")

    def __init__(self, device: torch.device) -> None:
        self._found = torch.zeros(1, device=device)
        self._one = torch.ones(1, device=device)

    def __call__(self, gradients: list[Tensor]) -> bool:
        """Look at gradients of any shapes; on an accelerator this waits for them."""
        if not gradients:
            return True
        try:
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._found, self._one)
        except (RuntimeError, NotImplementedError):
            self._found.zero_()  # some may have been looked at before the one that is not known
            return all(bool(torch.isfinite(_values(gradient)).all()) for gradient in gradients)
        if not self._found.item():
            return True
        self._found.zero_()
        return False


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def clip(parameters: Sequence[Tensor], norm: float | None, value: float | None) -> Tensor | None:
    """Clip gradients in place, by their common 2-norm first and then element by element.

    Args:
        parameters: The parameters whose ``.grad`` is clipped.
        norm: The largest 2-norm of all gradients together, or None.
        value: The largest magnitude of one element, or None.

    Returns:
        The 2-norm before clipping, shape (); None without ``norm``.
    """
    before = None if norm is None else clip_grad_norm_(parameters, norm)
    if value is not None and parameters:  # torch refuses to clip nothing by value
        clip_grad_value_(parameters, value)
    return before


def needs_closure(optimizer: Optimizer) -> bool:
    """Say whether an optimizer evaluates the loss itself, several times a step, as L-BFGS does."""
    return isinstance(optimizer, torch.optim.LBFGS)


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
