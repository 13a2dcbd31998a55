"""What a callback is: a table of hooks that do nothing until overridden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError
from torchflow.events import EpochEnded, EpochStarted, Failed, Finished, Gradients, Started, Stepped, Validated
from torchflow.types import State

if TYPE_CHECKING:
    from torchflow.run import Run


@dataclass(frozen=True, slots=True)
class Stop:
    """What a hook returns to end the run at this safe point.

    Args:
        reason: Why, in one sentence; it becomes ``result.reason``.
    """

    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str):
            raise ArgumentTypeError(
                f"Stop takes the reason as a str, got {shown(self.reason)}. Write Stop('the loss is low enough')."
            )


class Callback:
    """Reacts to a run. Override any hook; each may return ``Stop("reason")``. There is no other control flow.

    Callbacks are observers: they may be called in any order without a difference, and they do not change the run. A class
    that does (swapping weights, freezing, gradient noise) says ``changes_run = True``; those are called first, in the order
    of the list. A hook that nobody overrides costs nothing.
    """

    changes_run: bool = False

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse what cannot work, such as a metric of a name that will never come, before anything is written."""

    # The run is Run[Any, Any]: a callback works for every model and batch.
    def on_fit_start(self, run: Run[Any, Any], event: Started) -> Stop | None:
        """React before the first update, after a resume too."""

    def on_epoch_start(self, run: Run[Any, Any], event: EpochStarted) -> Stop | None:
        """React before the first batch of an epoch."""

    def on_gradients(self, run: Run[Any, Any], event: Gradients) -> Stop | None:
        """React to complete gradients before the optimizer steps. A Stop takes effect after the update."""

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> Stop | None:
        """React to a finished update."""

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> Stop | None:
        """React to a finished validation pass."""

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> Stop | None:
        """React to a finished epoch, its validation included."""

    def on_exception(self, run: Run[Any, Any], event: Failed) -> Stop | None:
        """React to whatever was raised; it goes on its way afterwards."""

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> Stop | None:
        """Clean up. Always called last, and once for every callback, even after an exception."""

    def state(self) -> Mapping[str, State]:
        """Return everything that changes while training; it goes into every checkpoint. Nothing by default."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned, tensors included."""

    def confirms(self, stop: Stop) -> bool:
        """Say, when a run is resumed that this callback had stopped, whether the stop still holds. It does by default."""
        return True
