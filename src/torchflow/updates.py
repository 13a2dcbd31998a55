"""Several updates by one call of compiled code: how many, and who makes them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torchflow.arguments import shown, whole
from torchflow.errors import ArgumentTypeError
from torchflow.events import Stepped

if TYPE_CHECKING:
    from torchflow.run import Run


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


class Compiled(Protocol):
    """Who makes several updates at once, seen from the loop; see :mod:`torchflow.compiled`."""

    # A group is what windows() gives and update() takes; nobody else looks into it.
    def windows(self, run: Run[Any, Any], single: Callable[[Run[Any, Any]], Any]) -> Generator[tuple[Any, bool], None, None]:
        """Yield groups of updates, or the batches of a single one, and whether the epoch ends with them."""
        ...

    def update(self, run: Run[Any, Any], group: Any, single: Callable[[Run[Any, Any], list[Any]], Stepped]) -> Stepped:
        """Make the updates of a group."""
        ...
