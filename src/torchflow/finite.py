"""Whether every number of every gradient is finite."""

from __future__ import annotations

import torch
from torch import Tensor


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
