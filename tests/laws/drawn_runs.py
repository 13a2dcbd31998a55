"""Drawn trainings that are made: to their end, watched, or cut."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, settings

from tests.laws.choices_drawn import Drawn
from tests.laws.problems import copied
from torchflow import Callback, Result, Run, Stop, summary
from torchflow.errors import NonFiniteError

QUIET = [
    pytest.mark.filterwarnings("ignore:the loss grows"),  # some of the drawn runs break out, which is no matter here
    pytest.mark.filterwarnings("ignore:(EMA|SWA) averaged nothing"),  # a run may stop before its first epoch ends
    pytest.mark.filterwarnings(r"ignore:(EMA|SWA)\(apply=True\) and EarlyStopping"),  # best weights that are no averages
    pytest.mark.filterwarnings("ignore:The ``compute`` method of metric"),  # torchmetrics', where every update was skipped
    pytest.mark.filterwarnings("ignore:the last batch of every epoch"),  # where it is about what is refused
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler"),  # by hand, where the first update was skipped
]
COUNT = int(os.environ.get("TORCHFLOW_TOGETHER", "100"))
"""How many trainings each law draws."""


def drawing(share: float = 1.0) -> settings:
    """The settings of a law that draws a share of the trainings."""
    return settings(
        max_examples=max(1, int(COUNT * share)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[phase for phase in Phase if phase is not Phase.explain],  # which takes minutes
    )


class Kept(Callback):
    """Keeps the run, whose state ``fit`` does not return."""

    run: Run[Any, Any]

    def on_fit_start(self, run: Run[Any, Any], event: Any) -> None:
        self.run = run


def fitted(
    drawn: Drawn, folder: Path, *, before: Callable[[Any, Any], None] = lambda trainer, model: None, **options: Any
) -> tuple[Result[Any], Run[Any, Any]]:
    """Train to the end, after whatever comes ``before``; trainings that break out are no matter here."""
    kept = Kept()
    more = {"kept": kept, **options.pop("more", {})}
    going_on = {name: options.pop(name) for name in ("resume",) if name in options}
    model = drawn.model(options.pop("weights", 0))
    trainer = drawn.trainer(folder, more=more, **options)
    try:
        before(trainer, model)
        return trainer.fit(model, **drawn.data(), **going_on), kept.run
    except NonFiniteError:
        assume(False)
        raise


class Killed(BaseException):
    """Stands for the end of the process."""


class Cut(Callback):
    """Ends a run from within a hook, once so many updates are made: by an exception, or by a Stop that the next start does not confirm."""

    def __init__(self, hook: str, after: int, *, kill: bool) -> None:
        self._hook, self._after, self._kill, self.cut = hook, after, kill, False
        setattr(self, hook, self._end)

    def __repr__(self) -> str:
        return f"Cut({self._hook!r}, {self._after}, kill={self._kill})"

    def _end(self, run: Run[Any, Any], event: Any) -> Stop | None:
        if run.progress.updates < self._after or self.cut:
            return None
        self.cut = True
        if self._kill:
            raise Killed
        return Stop("cut")

    def confirms(self, stop: Stop) -> bool:
        return False


class Nosy(Callback):
    """Draws from every global generator, evaluates, predicts, summarises and reads in every hook that it is called in."""

    def __init__(self, drawn: Drawn, folder: Path, hooks: frozenset[str]) -> None:
        self._drawn, self._other = drawn, drawn.trainer(folder, watched=False)
        for hook in hooks:
            setattr(self, hook, self._look)

    def _look(self, run: Run[Any, Any], event: Any) -> None:
        torch.rand(3)
        np.random.rand(2)
        random.random()
        columns = self._drawn.columns(5, seed=9)
        self._other.evaluate(run.model, columns)
        self._other.predict(run.model, columns, batch_size=2)
        dtype = next(run.model.parameters()).dtype
        summary(run.model, columns[0].to(dtype))
        copied(run.state())

    def __deepcopy__(self, memo: Any) -> Any:
        return self  # it keeps nothing
