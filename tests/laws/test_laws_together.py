"""Laws 1 to 3 over options that are drawn together: what holds for each alone holds for what a user combines.

``TORCHFLOW_TOGETHER`` says how many trainings each law draws.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.laws import by_hand
from tests.laws.by_hand import ByHand
from tests.laws.choices_drawn import Drawn
from tests.laws.drawing_choices import FULL, INTERVALS, SKIPPING, TOGETHER
from tests.laws.drawn_runs import QUIET, Cut, Killed, Nosy, drawing, fitted
from tests.laws.problems import copied, difference
from torchflow import Every, Result, Run, find_batch_size, find_learning_rate, summary
from torchflow.callbacks.averaging import Averaging
from torchflow.errors import NonFiniteError
from torchflow.hooks import HOOKS

pytestmark = QUIET

BY_HAND = TOGETHER.map(lambda drawn: replace(drawn, changing=tuple(name for name in drawn.changing if name in by_hand.CHANGING)))


def left_behind(result: Result[Any], run: Run[Any, Any]) -> dict[str, Any]:
    """What a training by hand leaves behind as well."""
    averages = {name: callback for name, callback in run.callbacks.items() if isinstance(callback, Averaging) and callback.count}
    validated = [row for row in result.history.rows if "valid/loss" in row]
    left: dict[str, Any] = copied(
        {
            "model": result.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in run.optimizers.items()},
            "scaler": run.state().get("scaling", {}),
            "averages": {name: callback.averaged.state_dict() for name, callback in averages.items() if name in by_hand.CHANGING},
            "validations": [{name: row[f"{name}/loss"] for name in run.validations} for row in validated],
            "epochs": [row["train/loss"] for row in result.history.rows if "train/loss" in row],
        }
    )
    return left


@drawing()
@given(drawn=BY_HAND)
@example(drawn=FULL)
@example(drawn=replace(FULL, precision="float32", size=1.0))
@example(drawn=replace(FULL, clip_norm=None))
@example(drawn=SKIPPING)
@example(drawn=replace(SKIPPING, changing=("stopping", "ema of samples", "unfreeze of epochs")))
def test_fit_equals_the_training_by_hand(drawn: Drawn) -> None:
    """Law 1: parameters, buffers, optimizers, averages of weights, the losses of validations and epochs are equal to the bit.

    Seen to fail when gradients are clipped before they are unscaled, or by value before norm; when a schedule steps after a skipped
    update; when recomputed modules draw anew, from torch or from NumPy, or update their statistics twice; when the weights are not put
    back after the validation of an average; when the statistics of a frozen part move; and when infinite gradients are not looked for.
    """
    try:
        expected = ByHand(drawn).train()
    except OverflowError:
        with TemporaryDirectory() as folder, pytest.raises(NonFiniteError):
            drawn.trainer(Path(folder)).fit(drawn.model(), **drawn.data())
        return
    with TemporaryDirectory() as folder:
        result, run = fitted(drawn, Path(folder))
    assert result.progress[:4] == expected.at[:4]
    assert difference(left_behind(result, run), expected.left_behind()) is None


def logs(folder: Path) -> dict[str, str]:
    """The files that callbacks have written."""
    return {name: (folder / name).read_text(encoding="utf-8") for name in ("log.csv", "log.jsonl") if (folder / name).exists()}


NEVER = 10**9
CUTS = st.lists(
    st.builds(
        Cut,
        st.sampled_from([hook for hook in HOOKS if hook not in ("on_exception", "on_fit_end")]),
        st.integers(0, 12),
        kill=st.booleans(),
    ),
    min_size=1,
    max_size=3,
)


@drawing(0.8)
@example(drawn=replace(FULL, precision="float32", size=1.0), cuts=[Cut("on_gradients", 7, kill=True)], save=Every(updates=3))
@example(drawn=FULL, cuts=[Cut("on_step_end", 4, kill=False)], save=Every(updates=2))
@example(drawn=replace(SKIPPING, schedule="plateau"), cuts=[Cut("on_validation_end", 7, kill=True)], save=Every(samples=5))
@example(
    drawn=Drawn("noisy", "mixing", schedule="plateau", changing=("ema",), rows=20, epochs=3, every=Every(updates=2)),
    cuts=[Cut("on_gradients", 3, kill=True), Cut("on_gradients", 8, kill=True)],
    save=Every(updates=1),
)
@given(drawn=TOGETHER, cuts=CUTS, save=INTERVALS)
def test_a_run_that_is_cut_and_resumed_ends_as_if_nobody_had(drawn: Drawn, cuts: list[Cut], save: Every) -> None:
    """Law 2: the whole state, the history, the reason, and the files of the logs.

    Seen to fail when an average of weights, the best weights, the factor of the losses, the best value of a plateau or the progress before
    the last update are left out of the state; when a fused optimizer is given moments that lie otherwise than its parameters; and when a log is not cut back.
    """
    with TemporaryDirectory() as undisturbed, TemporaryDirectory() as folder:
        expected, whole = fitted(drawn, Path(undisturbed), save=save)
        for cut in (*cuts, Cut("on_fit_start", NEVER, kill=False)):
            started = any(Path(folder).glob("run/step-*"))  # from then on the weights that a script begins with do not matter
            try:
                result, run = fitted(drawn, Path(folder), save=save, more={"cut": cut}, resume=True, weights=99 if started else 0)
            except Killed:
                continue
            # Two callbacks that ask for the same end: the first is heard, and it does not confirm it.
            assume(not cut.cut or run.progress.updates < whole.progress.updates)
        assert (result.reason, result.progress) == (expected.reason, expected.progress)
        assert difference(copied(run.state()), copied(whole.state())) is None
        assert difference(list(result.history.rows), list(expected.history.rows)) is None
        assert logs(Path(folder)) == logs(Path(undisturbed))


def looking(drawn: Drawn, looks: list[str]) -> Any:
    """What may come before a training, and is no part of it."""
    arguments = {**drawn.data(), "train": drawn.train()}
    reading = {name: arguments[name] for name in ("batch_size", "last_batch", "workers")}

    def look(trainer: Any, model: Any) -> None:
        for name in looks:
            if name == "evaluate":
                trainer.evaluate(model, drawn.columns(5, seed=9))
            elif name == "predict":
                trainer.predict(model, drawn.columns(5, seed=9), batch_size=2)
            elif name == "summary":
                summary(model, drawn.columns(5, seed=9)[0].to(next(model.parameters()).dtype))
            elif name == "plan":
                assert trainer.plan(model, **arguments).updates == drawn.updates
            elif name == "rehearse":
                trainer.rehearse(model, **arguments)
            elif name == "rate" and drawn.optimizer != "two":
                find_learning_rate(trainer, model, drawn.train(), updates=10, **reading)
            elif name == "size":
                find_batch_size(trainer, model, drawn.train(), start=4, limit=8)
        torch.rand(1)

    return look


def without_watchers(drawn: Drawn, result: Result[Any], run: Run[Any, Any]) -> dict[str, Any]:
    """What a run is, apart from those that watch it."""
    state = copied(run.state())
    parts = {
        name: state.get(name) for name in ("model", "optimizers", "schedulers", "scaling", "averages", "stop", "epoch_started")
    }
    callbacks = {name: state["callbacks"].get(name) for name in drawn.changing}
    rows = [row["train/loss"] for row in result.history.rows if "train/loss" in row]
    return {**parts, "callbacks": callbacks, "reason": result.reason, "progress": result.progress[:4], "losses": rows}


@drawing(0.7)
@given(
    drawn=TOGETHER,
    hooks=st.frozensets(st.sampled_from([hook for hook in HOOKS if hook != "on_exception"]), max_size=3),
    looks=st.lists(st.sampled_from(["evaluate", "predict", "summary", "plan", "rehearse", "rate", "size"]), max_size=3),
    save=st.one_of(st.none(), INTERVALS),
)
def test_whoever_watches_the_run_is_the_same(drawn: Drawn, hooks: frozenset[str], looks: list[str], save: Every | None) -> None:
    """Law 3: observers, validations that nobody listens to, checkpoints, and everything that only looks, before and in between.

    Seen to fail when evaluation leaves modules in evaluation mode, when a trial trains the model itself, when an average that nobody
    asked for is the model, and when a validation pass goes through the running sums of the training.
    """
    listened_to = drawn.schedule == "plateau" or any(name.startswith("stopping") for name in drawn.changing)
    bare = drawn if listened_to else replace(drawn, validations=0)
    with TemporaryDirectory() as first, TemporaryDirectory() as folder:
        expected = without_watchers(drawn, *fitted(bare, Path(first), watched=False))
        nosy = {"nosy": Nosy(drawn, Path(folder), hooks)}
        found = without_watchers(drawn, *fitted(drawn, Path(folder), before=looking(drawn, looks), more=nosy, save=save))
    assert difference(found, expected) is None
