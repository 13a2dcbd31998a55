"""Laws 1 to 5 over options that are drawn together: what holds for each alone holds for what a user combines.

``TORCHFLOW_TOGETHER`` says how many trainings each law draws.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.laws import by_hand
from tests.laws.by_hand import ByHand
from tests.laws.choices_drawn import EVERYTHING, TOGETHER, Drawn, refusal
from tests.laws.problems import copied, difference
from torchflow import Callback, Result, Run
from torchflow.callbacks.averaging import Averaging
from torchflow.errors import NonFiniteError

pytestmark = [
    pytest.mark.filterwarnings("ignore:the loss grows"),  # some of the drawn runs break out, which is no matter here
    pytest.mark.filterwarnings("ignore:(EMA|SWA) averaged nothing"),  # a run may stop before its first epoch ends
    pytest.mark.filterwarnings("ignore:The ``compute`` method of metric"),  # nor of torchmetrics, where every update was skipped
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler"),  # by hand, where the first update was skipped
]

COUNT = int(os.environ.get("TORCHFLOW_TOGETHER", "60"))
DRAWN = settings(
    max_examples=COUNT,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # what is common to the failing ones takes too long to explain
)
BY_HAND = TOGETHER.map(lambda drawn: replace(drawn, changing=tuple(name for name in drawn.changing if name in by_hand.CHANGING)))


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


def left_behind(result: Result[Any], run: Run[Any, Any]) -> dict[str, Any]:
    """What a training by hand leaves behind as well."""
    averages = {name: callback for name, callback in run.callbacks.items() if isinstance(callback, Averaging) and callback.count}
    validated = [row for row in result.history.rows if "valid/loss" in row]
    return copied(
        {
            "model": result.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in run.optimizers.items()},
            "scaler": run.state().get("scaling", {}),
            "averages": {name: callback.averaged.state_dict() for name, callback in averages.items() if name in by_hand.CHANGING},
            "validations": [{name: row[f"{name}/loss"] for name in run.validations} for row in validated],
            "epochs": [row["train/loss"] for row in result.history.rows if "train/loss" in row],
        }
    )


@DRAWN
@given(drawn=BY_HAND)
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
    assert difference(left_behind(result, run), expected.left_behind()) is None
