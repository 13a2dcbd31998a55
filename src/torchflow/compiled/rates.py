"""Learning rates of the updates of a group, which their schedules give ahead of time."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from torchflow.compiled.reasons import Uncapturable
from torchflow.errors import ArgumentValueError
from torchflow.run import Run


def refuse_moving_momentum(run: Run[Any, Any]) -> None:
    """Refuse a schedule that moves more than learning rates.

    Raises:
        Uncapturable: A schedule cycles the momentum, which a graph holds as a constant.
    """
    for scheduling in run.schedulings.values():
        if getattr(scheduling.scheduler, "cycle_momentum", False):
            name = type(scheduling.scheduler).__name__
            raise Uncapturable(f"{name} moves the momentum too, which a graph holds as a constant; pass cycle_momentum=False")


class Rates:
    """The learning rates of some updates to come; inside the block, the schedules have stepped past all of them.

    An exception, or :meth:`undo`, puts the schedules back.

    Args:
        run: The run.
        updates: How many updates.

    Attributes:
        stacked: Rates, float64, shape (updates, groups), over all groups of all optimizers.
        last: The rates of the last update, by optimizer name.
    """

    def __init__(self, run: Run[Any, Any], updates: int) -> None:
        self._run, self._updates = run, updates
        self._row: list[float] = []
        self._moves = any(s.metric is None and s.every.updates is not None for s in run.schedulings.values())
        self._schedules = [(s, s.state()) for s in run.schedulings.values()] if self._moves else []
        self._groups = [
            (group, dict(group) if self._moves else {}) for optimizer in run.optimizers.values() for group in optimizer.param_groups
        ]

    def __enter__(self) -> Rates:
        if not self._moves:
            if not self._row:
                self.last = self._by_name()
                self._row = [float(group["lr"]) for group, _ in self._groups]
                self.stacked: Tensor = torch.tensor([self._row] * self._updates, dtype=torch.float64, device=self._device)
            return self
        rows, now = [], self._run.progress
        for _ in range(self._updates):
            self.last = self._by_name()
            rows.append([float(group["lr"]) for group, _ in self._groups])
            before, now = now, now._replace(updates=now.updates + 1)
            self._run.step_schedules(before, now)
        self._refuse_other_moves()
        self.stacked = torch.tensor(rows, dtype=torch.float64, device=self._device)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.undo()

    def serve(self, updates: int) -> bool:
        """Say whether these are the rates of so many updates from here on, too."""
        if self._moves or updates != self._updates:
            return False
        row = [group["lr"] for optimizer in self._run.optimizers.values() for group in optimizer.param_groups]
        return row == self._row

    def undo(self) -> None:
        """Put the schedules and the rates back."""
        for scheduling, state in self._schedules:
            scheduling.load_state(state)
        for group, earlier in self._groups:
            group.update(earlier)

    @property
    def _device(self) -> torch.device:
        return self._run.choices.device

    def _by_name(self) -> dict[str, float]:
        return {name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in self._run.optimizers.items()}

    def _refuse_other_moves(self) -> None:
        for group, earlier in self._groups:
            moved = [name for name, value in group.items() if name not in ("lr", "params") and value != earlier[name]]
            if moved:
                self.undo()
                raise ArgumentValueError(
                    f"a schedule moves {moved[0]!r} between updates, and compile= takes everything but learning rates for constants. "
                    "Use compile=False, or a schedule of learning rates alone."
                )
