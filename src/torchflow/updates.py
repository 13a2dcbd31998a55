"""How many updates one call of compiled code makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchflow.arguments import shown, whole
from torchflow.errors import ArgumentTypeError


@dataclass(frozen=True, slots=True)
class Updates:
    """How many updates one call of machine code makes: ``compile=Updates(32)``.

    Args:
        count: Updates of a group, or ``"epoch"``. Groups lie on a grid from each epoch's start and are one event, so intervals,
            limits and signals round up to their ends.

    Raises:
        ArgumentTypeError: ``count`` is neither an int nor ``"epoch"``.
        ArgumentValueError: ``count`` is below 1.
    """

    count: int | Literal["epoch"]

    def __post_init__(self) -> None:
        if isinstance(self.count, str):
            if self.count != "epoch":
                raise ArgumentTypeError(f"Updates takes an int or 'epoch', got {shown(self.count)}. Write Updates(32).")
        else:
            whole("Updates(count)", self.count, hint="Or 'epoch'.")

    @property
    def size(self) -> int:
        """Updates of a group, where an epoch has that many."""
        return 2**62 if isinstance(self.count, str) else self.count
