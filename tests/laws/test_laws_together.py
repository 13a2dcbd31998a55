"""Laws 1 to 5 over options that are drawn together: what holds for each alone holds for what a user combines.

``TORCHFLOW_TOGETHER`` says how many trainings each law draws.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.laws import by_hand
from tests.laws.by_hand import ByHand
from tests.laws.choices_drawn import EVERYTHING, TOGETHER, Drawn, refusal
from tests.laws.problems import copied, difference
from torchflow import Callback, Result, Run
from torchflow.errors import NonFiniteError

pytestmark = [
    pytest.mark.filterwarnings("ignore:the loss grows"),  # some of the drawn runs break out, which is no matter here
    pytest.mark.filterwarnings("ignore:(EMA|SWA) averaged nothing"),  # a run may stop before its first epoch ends
]

COUNT = int(os.environ.get("TORCHFLOW_TOGETHER", "60"))
SLOW = [HealthCheck.filter_too_much, HealthCheck.too_slow]


class Kept(Callback):
    """Keeps the run, whose state ``fit`` does not return."""

    run: Run[Any, Any]

    def on_fit_start(self, run: Run[Any, Any], event: Any) -> None:
        self.run = run


def fitted(drawn: Drawn, folder: Path, **options: Any) -> tuple[Result[Any], Run[Any, Any]]:
    """Train to the end; trainings that break out are no matter here."""
    kept = Kept()
    trainer = drawn.trainer(folder, more={"kept": kept}, **options)
    try:
        return trainer.fit(drawn.model(), **drawn.data()), kept.run
    except NonFiniteError:
        assume(False)
        raise


@settings(max_examples=COUNT, deadline=None, suppress_health_check=SLOW)
@given(drawn=TOGETHER.filter(lambda drawn: set(drawn.changing) <= by_hand.CHANGING))
def test_fit_equals_the_training_by_hand(drawn: Drawn) -> None:
    """Law 1."""
    try:
        expected = ByHand(drawn).train()
    except OverflowError:
        expected = None
    with TemporaryDirectory() as folder:
        if expected is None:
            with pytest.raises(NonFiniteError):
                drawn.trainer(Path(folder)).fit(drawn.model(), **drawn.data())
            return
        result, run = fitted(drawn, Path(folder))
    assert result.progress[:4] == expected.at[:4]
    rows = result.history.rows
    found = {
        "model": result.model.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in run.optimizers.items()},
        "scaler": run.state().get("scaling", {}),
        "averages": {name: run.callbacks[name].averaged.state_dict() for name in expected.averages if run.callbacks[name].count},  # type: ignore[attr-defined]
        "validations": [{name: row[f"{name}/loss"] for name in ("valid", "other") if f"{name}/loss" in row} for row in rows if "valid/loss" in row],
        "epochs": [row["train/loss"] for row in rows if "train/loss" in row],
    }
    assert difference(copied(found), {
        "model": expected.model.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in expected.optimizers.items()},
        "scaler": expected.scaler.state_dict(),
        "averages": {name: average.module.state_dict() for name, average in expected.averages.items() if average.n_averaged},
        "validations": expected.validations,
        "epochs": expected.epochs,
    }) is None
