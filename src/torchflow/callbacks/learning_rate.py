"""The learning rates of a run in its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchflow.callbacks.history import history_of
from torchflow.callbacks.recurring import Recurring, interval
from torchflow.events import Stepped
from torchflow.intervals import Every, Progress
from torchflow.types import State

if TYPE_CHECKING:
    from torchflow.run import Run


class LearningRate(Recurring):
    """Records the learning rate that the last update used into the history, as ``"learning_rate/main"``.

    The name after the slash is that of the optimizer, ``main`` where there is one. Of an optimizer with several groups of
    parameters it is the rate of the first.

    Args:
        every: When; at the end of every epoch by default. Not in seconds.

    Raises:
        ArgumentTypeError: ``every`` is no interval.
        ArgumentValueError: ``every`` is in seconds.
    """

    def __init__(self, every: Every | None = None) -> None:
        super().__init__(interval("LearningRate(every=…)", every, Every(epochs=1), seconds=False))
        self._rates: dict[str, float] = {}

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Keep the rates of the update: a schedule may have moved on since."""
        self._rates = dict(event.learning_rates)
        super().on_step_end(run, event)

    def act(self, run: Run[Any, Any], progress: Progress) -> None:
        """Write the rates into the history."""
        history_of(run).note(progress, {f"learning_rate/{name}": rate for name, rate in self._rates.items()})

    def state(self) -> Mapping[str, State]:
        """Return the rates of the last update."""
        return {"rates": dict(self._rates)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self._rates = dict(state["rates"])
