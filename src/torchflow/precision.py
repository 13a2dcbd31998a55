"""Numbers: dtypes, gradients that are finite, clipping, and the optimizer's step. The only file that decides them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

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
    """Add the gradients of a scalar loss to its leaves."""
    torch.autograd.backward(loss)


def divide(gradients: Iterable[Tensor], total: float | Tensor) -> None:
    """Divide gradients by the count of a whole update, in place, once."""
    for gradient in gradients:
        gradient.div_(total)


def all_finite(parameters: Iterable[Tensor]) -> bool:
    """Say whether every element of every gradient is finite.

    A sum is NaN or infinite as soon as one element is, and so is the sum of sums: one pass over each gradient without a
    temporary. Only where that overflowed, which finite elements can do too, each element is looked at.

    Args:
        parameters: The parameters, each with a gradient.
    """
    total = 0.0
    gradients = [p.grad for p in parameters if p.grad is not None]
    for gradient in gradients:
        total += gradient.sum().item()
    return math.isfinite(abs(total)) or all(bool(torch.isfinite(_values(gradient)).all()) for gradient in gradients)


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
    if value is not None:
        clip_grad_value_(parameters, value)
    return before


def needs_closure(optimizer: Optimizer) -> bool:
    """Say whether an optimizer evaluates the loss itself, several times a step, as L-BFGS does."""
    return isinstance(optimizer, torch.optim.LBFGS)


def optimizer_step(optimizer: Optimizer, closure: Callable[[], Tensor] | None = None) -> None:
    """Let an optimizer make its step."""
    if closure is None:
        optimizer.step()
    else:
        # Optimizer.step is annotated for closures that return a float; L-BFGS itself calls float() on the result.
        optimizer.step(closure)  # type: ignore[arg-type]
