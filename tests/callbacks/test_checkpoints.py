from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

import torchflow
from tests.small import Untouched, columns, line, raising, reacting, sgd, trainer, weights
from torchflow import Callback, Checkpoints, EarlyStopping, Every, Resume, Stop, Trainer
from torchflow.checkpoint import Store
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CallbackError, CheckpointError, DataError, MismatchError


def steps(folder: Path) -> list[int]:
    """The numbers of updates of the checkpoints that a folder holds."""
    return sorted(int(path.name.removeprefix("step-").partition("-")[0]) for path in (folder / "checkpoints").glob("step-*"))


def fit(made: Trainer[Any, Any], **options: Any) -> Any:
    return made.fit(line(), columns(12), **{"batch_size": 4, "validation": columns(4, seed=1), "epochs": 3, **options})


@pytest.fixture(params=[True, False], ids=["background", "at once"])
def background(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize(
    ("every", "keep", "expected"),
    [
        (None, 2, [6, 9]),
        (None, 9, [0, 3, 6, 9]),
        (Every(updates=2), 99, [0, 2, 4, 6, 8, 9]),
        (Every(samples=20), 99, [0, 5, 9]),
        (Every(epochs=2), 3, [0, 6, 9]),
        (Every(updates=1), 3, [7, 8, 9]),
        (Every(seconds=1e-9), 99, list(range(10))),
        (Every(seconds=1e9), 99, [0, 9]),
    ],
)
def test_checkpoints_come_at_their_interval_and_the_newest_stay(
    tmp_path: Path, every: Every | None, keep: int, expected: list[int], background: bool
) -> None:
    folder = tmp_path / "run"
    fit(trainer(checkpoints=Checkpoints(folder, every=every, keep=keep, background=background)))
    assert steps(folder) == expected


def test_the_state_before_the_first_update_is_published_first(tmp_path: Path) -> None:
    there: list[list[int]] = []
    folder = tmp_path / "run"
    made = trainer(
        callbacks=[reacting("on_epoch_start", lambda run, event: there.append(steps(folder)))],
        checkpoints=Checkpoints(folder, every=Every(epochs=9)),
    )
    fit(made)
    assert there[0] == [0]


class Scores(Callback):
    """Puts a metric of its own making into every validation that comes after it."""

    changes_run = True

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.number = 0

    def on_validation_end(self, run: Any, event: Any) -> None:
        event.metrics["valid/score"] = self.values[self.number]
        self.number += 1

    def state(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_state(self, state: Any) -> None:
        self.number = state["number"]


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        ([3.0, 1.0, 2.0, 2.0, 2.0], "min", 6),
        ([3.0, 1.0, 2.0, 4.0, 2.0], "max", 12),
        ([1.0, 1.0, 1.0, 1.0, 1.0], "min", 3),
        ([math.nan, 2.0, math.nan, 3.0, math.nan], "min", 6),
        ([math.inf, math.inf, 5.0, 6.0, math.nan], "min", 9),
        ([-1.0, -3.0, -2.0, -2.0, -2.0], "max", 3),
    ],
)
def test_the_best_checkpoint_stays_and_is_pointed_to(
    tmp_path: Path, values: list[float], mode: Literal["min", "max"], best: int, background: bool
) -> None:
    folder = tmp_path / "run"
    checkpoints = Checkpoints(folder, best="valid/score", mode=mode, background=background, every=Every(epochs=100))
    fit(trainer(callbacks=[Scores(values)], checkpoints=checkpoints), epochs=5)
    assert best in steps(folder)
    assert Store(folder).pointed("best") == best


def test_a_metric_that_was_never_a_number_has_no_best(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(trainer(callbacks=[Scores([math.nan] * 3)], checkpoints=Checkpoints(folder, best="valid/score")))
    assert steps(folder) == [6, 9]
    assert not (folder / "best.json").exists()


def test_the_best_is_remembered_over_a_resume(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def made() -> Any:
        return trainer(callbacks=[Scores([3.0, 1.0, 2.0, 1.5, 1.2])], checkpoints=Checkpoints(folder, best="valid/score"))

    fit(made(), epochs=3)
    fit(made(), epochs=5, resume=True)
    assert Store(folder).pointed("best") == 6
    assert steps(folder) == [6, 12, 15]


def test_a_best_metric_needs_its_stream_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        Untouched(folder),
        pytest.raises(ArgumentValueError, match=r"best='other/loss'\) needs a validation named 'other'; .* has 'valid'"),
    ):
        fit(trainer(checkpoints=Checkpoints(folder, best="other/loss")))
    with (
        Untouched(folder),
        pytest.raises(ArgumentValueError, match=r"needs a validation named 'valid'; this run has none\. Pass validation"),
    ):
        fit(trainer(checkpoints=Checkpoints(folder, best="valid/loss")), validation=None)


def test_a_best_metric_that_does_not_come_is_named_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(CallbackError, match=r"Checkpoints\(best='valid/lss'\) finds no such metric; there are 'valid/loss'"):
        fit(trainer(checkpoints=Checkpoints(tmp_path / "run", best="valid/lss")))


@pytest.mark.parametrize("on_exception", [True, False])
def test_an_exception_between_two_updates_is_followed_by_a_save_where_asked_for(tmp_path: Path, on_exception: bool) -> None:
    folder = tmp_path / "run"

    class Fails:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Any:
            yield columns(4)
            yield columns(4, seed=1)
            raise OSError("bad disk")

    with pytest.raises(DataError) as raised:
        trainer(checkpoints=Checkpoints(folder, on_exception=on_exception)).fit(line(), Fails(), epochs=1)
    assert steps(folder) == ([0, 2] if on_exception else [0])
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("place", ["step", "callback"])
def test_a_half_done_state_is_never_saved_and_the_error_says_so(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "run"
    calls: list[int] = []

    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        calls.append(1)
        if place == "step" and len(calls) == 3:
            raise ZeroDivisionError("wrong")
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    callbacks = [raising("on_epoch_end", ZeroDivisionError("wrong"))] if place == "callback" else []
    with pytest.raises((ZeroDivisionError, CallbackError)) as raised:
        trainer(step=step, callbacks=callbacks, checkpoints=folder).fit(line(), columns(12), batch_size=4, epochs=1)
    assert steps(folder) == [0]
    assert any(f"nothing was saved; the last checkpoint is in {folder}" in note for note in raised.value.__notes__)


class Strange(Callback):
    """A callback whose state a checkpoint cannot hold, from some update on."""

    def __init__(self, what: Any, after: int = 0) -> None:
        self.what, self.after, self.updates = what, after, 0

    def on_step_end(self, run: Any, event: Any) -> None:
        self.updates = event.progress.updates

    def state(self) -> Any:
        if self.updates > self.after:
            if isinstance(self.what, Exception):
                raise self.what
            return {"what": self.what}
        return {"what": None}

    def load_state(self, state: Any) -> None:
        """Take nothing."""
        self.updates = 0


def test_a_state_that_no_checkpoint_can_hold_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="callbacks/strange/what"):
        fit(trainer(callbacks=[Strange(object())], checkpoints=tmp_path / "run"))
    assert steps(tmp_path / "run") == [0]


def test_an_error_in_a_callbacks_state_names_it_and_the_others_end(tmp_path: Path) -> None:
    ended: list[int] = []
    callbacks = [Strange(ValueError("wrong")), reacting("on_fit_end", lambda run, event: ended.append(1))]
    with pytest.raises(CallbackError, match=r"callback 'strange' raised ValueError in state\(\).*: wrong") as raised:
        fit(trainer(callbacks=callbacks, checkpoints=tmp_path / "run"))
    assert isinstance(raised.value.__cause__, ValueError)
    assert ended == [1]
    assert steps(tmp_path / "run") == [0]


def test_a_folder_that_was_used_is_renamed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    for _ in range(3):
        with caplog.at_level(logging.WARNING, "torchflow"):
            fit(trainer(checkpoints=folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.1", "run.2"]
    assert [record.getMessage() for record in caplog.records] == [
        f"torchflow: {folder} was used before; it is now called {tmp_path / name}." for name in ("run.1", "run.2")
    ]
    assert steps(tmp_path / "run.1") == steps(folder) == [6, 9]


def test_a_resume_where_nothing_is_starts(tmp_path: Path) -> None:
    result = fit(trainer(checkpoints=tmp_path / "run"), resume=True)
    assert result.progress.updates == 9
    assert weights(result.model) == weights(fit(trainer()).model)


def test_a_finished_run_that_is_resumed_returns_at_once_with_its_reason(tmp_path: Path) -> None:
    made = trainer(checkpoints=tmp_path / "run", callbacks=[EarlyStopping("valid/loss", target=1e9)])
    first = fit(made)
    assert "reached the target" in first.reason
    before = sorted((tmp_path / "run" / "checkpoints").iterdir())
    updates: list[int] = []
    again = trainer(
        checkpoints=tmp_path / "run",
        callbacks=[EarlyStopping("valid/loss", target=1e9), reacting("on_step_end", lambda run, event: updates.append(1))],
    )
    result = fit(again, resume=True)
    assert result.reason == first.reason
    assert result.progress == first.progress
    assert result.history.rows == first.history.rows
    assert weights(result.model) == weights(first.model)
    assert updates == []
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == before


def test_a_stopped_run_goes_on_when_its_rule_was_changed(tmp_path: Path) -> None:
    fit(trainer(checkpoints=tmp_path / "run", callbacks=[EarlyStopping("valid/loss", target=1e9)]))
    result = fit(trainer(checkpoints=tmp_path / "run", callbacks=[EarlyStopping("valid/loss")]), resume=True)
    assert result.reason == "all 3 epochs are done"
    assert result.progress.updates == 9


def test_more_epochs_go_on_where_the_run_ended(tmp_path: Path) -> None:
    made = trainer(checkpoints=tmp_path / "run", optimizer=sgd(momentum=0.9))
    fit(made, epochs=2)
    result = fit(made, epochs=5, resume=True)
    whole = fit(trainer(optimizer=sgd(momentum=0.9)), epochs=5)
    assert weights(result.model) == weights(whole.model)
    assert result.history.rows == whole.history.rows
    assert result.progress == whole.progress
    assert (result.reason, fit(made, epochs=5, resume=True).reason) == ("all 5 epochs are done",) * 2
    assert fit(made, epochs=2, resume=True).progress.epoch == 5


def test_a_run_stopped_by_any_limit_goes_on(tmp_path: Path) -> None:
    made = trainer(checkpoints=tmp_path / "run")
    for updates in (1, 4, 6, 9):
        result = fit(made, epochs=None, max_updates=updates, resume=True)
        assert (result.progress.updates, result.reason) == (updates, f"max_updates={updates} is reached")
    assert weights(fit(made, resume=True).model) == weights(fit(trainer()).model)


def test_a_checkpoint_of_another_run_is_refused_and_stays(tmp_path: Path) -> None:
    fit(trainer(checkpoints=tmp_path / "run"))
    before = sorted(path.read_bytes() for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file())
    with pytest.raises(MismatchError, match="seed: stored as 0"):
        fit(trainer(checkpoints=tmp_path / "run", seed=1), resume=True)
    after = sorted(path.read_bytes() for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file())
    assert after == before
    result = fit(trainer(checkpoints=tmp_path / "run", optimizer=sgd(0.01)), epochs=4, resume=Resume(override=["lr"]))
    assert result.progress.epoch == 4


def test_a_resume_needs_a_folder() -> None:
    for resume in (True, Resume()):
        with pytest.raises(
            ArgumentValueError, match=r"resume needs a folder to go on from\. Pass checkpoints=Checkpoints\('runs/name'\)"
        ):
            fit(trainer(), resume=resume)


def test_two_runs_on_one_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found: list[BaseException] = []

    def second(run: Any, event: Any) -> Stop:
        try:
            fit(trainer(checkpoints=Checkpoints(folder)), resume=True)
        except CheckpointError as error:
            found.append(error)
        return Stop("enough")

    fit(trainer(checkpoints=folder, callbacks=[reacting("on_step_end", second)]))
    assert "in use" in str(found[0])


def test_a_failed_save_stops_the_run_or_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    publish = Store.publish

    def full(self: Store, step: int, *args: Any, **options: Any) -> Path:
        if step == 3:
            raise CheckpointError("the disk is full")
        return publish(self, step, *args, **options)

    monkeypatch.setattr(Store, "publish", full)
    with caplog.at_level(logging.WARNING, "torchflow"):
        fit(trainer(checkpoints=Checkpoints(tmp_path / "warn", on_error="warn", background=background, keep=9)))
    assert steps(tmp_path / "warn") == [0, 6, 9]
    assert any("a save failed, and training goes on: the disk is full" in record.getMessage() for record in caplog.records)
    with pytest.raises(CheckpointError, match="the disk is full"):
        fit(trainer(checkpoints=Checkpoints(tmp_path / "stop", background=background, keep=9)))
    assert steps(tmp_path / "stop")[0] == 0
    assert 3 not in steps(tmp_path / "stop")


def test_saving_that_fails_after_an_exception_is_noted_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails:
        def __iter__(self) -> Any:
            yield from (columns(4), columns(4))
            raise OSError("bad disk")

    publish = Store.publish

    def full(self: Store, step: int, *args: Any, **options: Any) -> Path:
        if step:
            raise CheckpointError("the disk is full")
        return publish(self, step, *args, **options)

    monkeypatch.setattr(Store, "publish", full)
    with pytest.raises(DataError) as raised:
        trainer(checkpoints=tmp_path / "run").fit(line(), Fails(), epochs=1)
    assert any("saving after it failed too: the disk is full" in note for note in raised.value.__notes__)


def test_a_last_save_that_fails_in_the_background_after_another_error_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Store.publish

    def full(self: Store, step: int, *args: Any, **options: Any) -> Path:
        if step == 3:
            raise CheckpointError("the disk is full")
        return publish(self, step, *args, **options)

    monkeypatch.setattr(Store, "publish", full)
    with caplog.at_level(logging.WARNING, "torchflow"), pytest.raises(CallbackError):
        fit(
            trainer(
                checkpoints=Checkpoints(tmp_path / "run", on_exception=False),
                callbacks=[second_epoch()],
            )
        )
    assert any("the last save failed: the disk is full" in record.getMessage() for record in caplog.records)


def second_epoch() -> Callback:
    def react(run: Any, event: Any) -> None:
        if event.progress.epoch == 1:
            raise ValueError("wrong")

    return reacting("on_epoch_start", react)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"folder": 3}, ArgumentTypeError, r"folder must be a path"),
        ({"folder": ""}, ArgumentValueError, r"folder must be a path that is not empty"),
        ({"every": 3}, ArgumentTypeError, r"every must be an interval such as Every\(epochs=1\), got 3"),
        ({"keep": 1}, ArgumentValueError, r"keep must be an int of at least 2 .* one bad file never ends a run"),
        ({"keep": 0}, ArgumentValueError, r"keep must be an int of at least 2"),
        ({"keep": 2.0}, ArgumentTypeError, r"keep must be an int of at least 2"),
        ({"best": "loss"}, ArgumentValueError, r"best must be the full name of a metric such as 'valid/loss', got 'loss'"),
        ({"best": 3}, ArgumentValueError, r"best must be the full name"),
        ({"best": "valid/"}, ArgumentValueError, r"best must be the full name"),
        ({"mode": "least"}, ArgumentValueError, r"mode must be one of 'min', 'max', got 'least'"),
        ({"on_exception": 1}, ArgumentTypeError, r"on_exception must be True or False"),
        ({"background": "yes"}, ArgumentTypeError, r"background must be True or False"),
        ({"on_error": "ignore"}, ArgumentValueError, r"on_error must be one of 'stop', 'warn'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with Untouched(tmp_path / "run"), pytest.raises(error, match=message):
        Checkpoints(**{"folder": tmp_path / "run", **options})


def test_an_object_is_used_for_one_run_after_another(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run", best="valid/loss")
    made = trainer(checkpoints=checkpoints)
    first = fit(made)
    second = fit(made)
    assert weights(first.model) == weights(second.model)
    assert steps(tmp_path / "run") == steps(tmp_path / "run.1")


def test_checkpoints_that_were_never_opened_write_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    run = trainer().start(line(), columns(8))
    checkpoints.start(run)
    checkpoints.finish(run)
    checkpoints.rescue(run, ValueError())
    checkpoints.close()
    assert not (tmp_path / "run").exists()
    assert torchflow.Checkpoints is Checkpoints


def test_a_state_that_is_no_mapping_names_its_callback(tmp_path: Path) -> None:
    class Wrong(Callback):
        def state(self) -> Any:
            return {} if self.early else 3

        early = True

        def on_step_end(self, run: Any, event: Any) -> None:
            self.early = False

    with pytest.raises(CallbackError, match=r"callback 'wrong' returned 3 \(int\) from state\(\)\. Return a dict"):
        fit(trainer(callbacks=[Wrong()], checkpoints=tmp_path / "run"))


def test_a_run_may_go_on_without_the_best_that_it_kept(tmp_path: Path) -> None:
    fit(trainer(checkpoints=Checkpoints(tmp_path / "run", best="valid/loss")))
    result = fit(trainer(checkpoints=Checkpoints(tmp_path / "run")), epochs=4, resume=True)
    assert result.progress.epoch == 4
