"""Gradual unfreezing: parts of a model that begin to train one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torchflow.arguments import shown
from torchflow.callbacks.freezing import Freezing, matching, patterns_of
from torchflow.callbacks.recurring import interval
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.events import EpochStarted, Stepped
from torchflow.intervals import Every, Progress

if TYPE_CHECKING:
    from torchflow.run import Run


class Unfreeze(Freezing):
    """Lets the parts of a model train one after the other (Howard and Ruder, 2018, arXiv:1801.06146, section 3.3).

    At first everything that is named stays frozen, and the rest trains. After every interval one stage more is released, in
    the order given. What is released is a function of the progress alone, so a resumed run goes on right. With ``compile=Updates(k)``
    a stage is released between two groups.

    Args:
        stages: The stages in the order of their release, each a pattern as of :class:`Freeze` or a list of them: usually from the
            output to the input, ``["encoder.2", "encoder.1", ["encoder.0", "embedding"]]``.
        every: When the next stage is released: after every epoch by default. Not in seconds.
        statistics: As of :class:`Freeze`, until the stage is released.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: There is no stage, an empty one, or an interval in seconds.
    """

    def __init__(self, stages: Sequence[str | Sequence[str]], *, every: Every | None = None, statistics: bool = True) -> None:
        if not isinstance(stages, (list, tuple)):
            raise ArgumentTypeError(f"stages must be a list of stages such as ['encoder.1', 'encoder.0'], got {shown(stages)}.")
        if not stages:
            raise ArgumentValueError(
                "stages must not be empty. Write the modules in the order of their release: ['encoder.1', ...]."
            )
        self.every = interval("Unfreeze(every=…)", every, Every(epochs=1), seconds=False)
        super().__init__([patterns_of(f"stages[{n}]", stage) for n, stage in enumerate(stages)], statistics=statistics)

    def released(self, progress: Progress) -> int:
        """Return how many intervals lie before a progress: so many stages train."""
        every = self.every
        if every.epochs is not None:
            return progress.epoch // every.epochs
        return progress.updates // every.updates if every.updates is not None else progress.samples // (every.samples or 1)

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse a stage that no optimizer would train once it is released, too.

        Raises:
            ArgumentValueError: Such a stage, or what :class:`Freeze` refuses.
        """
        super().check(run)
        held = {p for optimizer in run.optimizers.values() for group in optimizer.param_groups for p in group["params"]}
        for stage in self.stages:
            lost = [name for name, p in matching(run.model, stage) if p not in held]
            if lost:
                raise ArgumentValueError(
                    f"Unfreeze: no optimizer holds {lost[0]!r}, so it would not train once it is released. Build the optimizer from "
                    "model.parameters(), not from those that require a gradient at first."
                )

    def on_epoch_start(self, run: Run[Any, Any], event: EpochStarted) -> None:
        """Release what is due by epochs."""
        self.release(event.progress)

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Release what is due by updates or samples."""
        if self.every.epochs is None:
            self.release(event.progress)
