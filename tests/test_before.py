"""plan() and rehearse(): what a run will do and take, and what would have failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.small import Noisy, Recorder, columns, line, raising, sgd, trainer, weights
from torchflow import Callback, Checkpoints, CSVLog, EarlyStopping, Every, JSONLines, Outputs, Profile
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CallbackError, CheckpointError, DataError, StepError


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters())


# Plans


def test_a_plan_says_what_it_is_asked_for() -> None:
    made = trainer(callbacks=[EarlyStopping("valid/loss")], accumulate=2, seed=5, optimizer=adam)
    plan = made.plan(Noisy(), columns(20), epochs=3, batch_size=4, validation=columns(5), validate=Every(updates=2))
    assert plan.updates == 9
    assert dict(plan.counts) == {"Started": 1, "EpochStarted": 3, "Stepped": 9, "Validated": 4, "EpochEnded": 3, "Finished": 1}
    assert plan.validations == {"valid": 2}
    assert plan.hooks["on_validation_end"] == ("early_stopping", "history")
    assert (plan.seed, plan.draws) == (5, ("torch",))
    assert plan.seconds is not None
    assert 0 < plan.seconds_per_update < plan.seconds
    said = " ".join(repr(plan).split())
    for words in (
        "updates 9 in all, 3 an epoch of 20 samples in 5 batches",
        "validation every 2 updates, 4 in all: valid",
        "checkpoints none: nothing is written",
        "seed 5",
        "the step draws from torch",
    ):
        assert words in said


def test_memory_is_what_the_tensors_hold() -> None:
    plan = trainer(optimizer=adam, checkpoints="runs/never").plan(line(), columns(20), epochs=1, batch_size=4)
    sizes = dict(plan.memory)
    # 3 weights; Adam keeps two averages of each and two counters of steps.
    assert (sizes["parameters"], sizes["gradients"], sizes["optimizer"]) == (12, 12, 2 * 12 + 2 * 4)
    assert sizes["batches of an update"] == 4 * (2 + 1) * 4
    assert sizes["a checkpoint on the disk"] >= 12 + 32
    assert not Path("runs/never").exists()


def test_what_the_step_draws_from_is_found() -> None:
    import random  # noqa: PLC0415

    def drawing(model: nn.Module, batch: Any) -> Any:
        return (model(batch[0]) - batch[1]).square().mean() * (1 + 0 * random.random())

    assert trainer().plan(line(), columns(), epochs=1).draws == ()
    assert trainer(step=drawing).plan(line(), columns(), epochs=1).draws == ("random or numpy.random",)


def test_data_without_a_length_and_seconds_are_not_foretold() -> None:
    class Stream:
        def __iter__(self) -> Any:
            return iter([columns(4), columns(4)])

    plan = trainer().plan(line(), Stream(), max_updates=7)
    assert (plan.updates, plan.timetable, dict(plan.counts), list(plan.moments())) == (7, None, {}, [])
    assert "7 in all; the data does not say" in repr(plan)
    timed = trainer().plan(line(), columns(), max_seconds=30.0)
    assert (timed.updates, timed.seconds) == (None, 30.0)
    assert "at most 30 s" in repr(timed)


def test_a_loader_s_batches_are_counted_and_its_samples_are_not() -> None:
    loader = DataLoader(TensorDataset(*columns(20)), batch_size=8)
    plan = trainer().plan(line(), loader, epochs=2)
    assert (plan.updates, plan.counts["Stepped"]) == (6, 6)
    by_samples = trainer(checkpoints=Checkpoints("runs/never", every=Every(samples=10)))
    assert by_samples.plan(line(), loader, epochs=2).timetable is None


def test_a_million_updates_are_planned_without_counting_them() -> None:
    plan = trainer().plan(line(), columns(20), epochs=10_000_000, batch_size=4)
    assert plan.updates == 50_000_000
    assert dict(plan.counts) == {}


def test_nobody_is_called_by_a_plan_but_the_step() -> None:
    recorder = Recorder()
    trainer(callbacks=[recorder]).plan(line(), columns(), epochs=2, validation=columns())
    assert recorder.seen == []


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "duration": ({}, {"epochs": None}, ArgumentTypeError, r"plan needs to know when to end"),
    "unknown": ({}, {"epoch": 3}, ArgumentTypeError, r"plan has no argument 'epoch'.*epochs"),
    "iterator": ({}, {"train": iter([columns()])}, ArgumentTypeError, r"train is a list_iterator, which can be read once"),
    "empty": ({}, {"train": columns(0)}, DataError, r"train has no samples"),
    "resume": ({}, {"resume": True}, ArgumentValueError, r"resume needs a folder"),
    "best": (
        {"checkpoints": Checkpoints("runs/never", best="valid/loss")},
        {},
        ArgumentValueError,
        r"Checkpoints\(best='valid/loss'\) needs a validation",
    ),
    "step": ({"step": lambda model, batch: 3}, {}, StepError, r"step must return the loss"),
    "stopping": ({"callbacks": [EarlyStopping("valid/loss")]}, {}, ArgumentValueError, r"needs a stream named 'valid'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_plan_raises_what_fit_would_raise(name: str) -> None:
    options, changed, error, message = WRONG[name]
    given: dict[str, Any] = {"model": line(), "train": columns(), "epochs": 1, **changed}
    with pytest.raises(error, match=message):
        trainer(**options).plan(given.pop("model"), given.pop("train"), **given)
    assert not Path("runs/never").exists()


# Rehearsals


def test_a_rehearsal_of_a_sound_run_goes_through_all_of_it(tmp_path: Path) -> None:
    made = trainer(
        optimizer=adam,
        callbacks=[EarlyStopping("valid/loss", restore_best=True)],
        checkpoints=Checkpoints(tmp_path / "run", best="valid/loss"),
    )
    found = made.rehearse(Noisy(), columns(21), epochs=50, batch_size=4, validation={"valid": columns(5), "other": columns(6)})
    assert found.ok, repr(found)
    assert [act.name for act in found.acts] == [
        "building the run",
        "two updates, a validation, a checkpoint",
        "loading it into a fresh run",
        f"the folder {tmp_path / 'run'}",
    ]
    assert "2 updates" in found.acts[1].found
    assert "valid/loss" in found.acts[1].found
    assert "other/loss" in found.acts[1].found
    assert list(tmp_path.iterdir()) == []
    found.raise_for_failure()


def test_the_first_and_the_last_batches_take_part() -> None:
    sizes: list[int] = []

    def step(model: nn.Module, batch: Any) -> Any:
        sizes.append(len(batch[0]))
        return (model(batch[0]) - batch[1]).square().mean()

    assert trainer(step=step).rehearse(line(), columns(21), epochs=50, batch_size=4, validation=columns(7)).ok
    assert sizes == [4, 1, 4, 3]


class Forgetful(Callback):
    """Loads something else than it saved."""

    def __init__(self) -> None:
        self.count = 0

    def on_step_end(self, run: Any, event: Any) -> None:
        self.count += 1

    def state(self) -> Mapping[str, Any]:
        return {"count": self.count}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.count = 0


class Unsaid(nn.Linear):
    """Keeps a state that no checkpoint can hold."""

    def get_extra_state(self) -> Any:
        return object()

    def set_extra_state(self, state: Any) -> None:
        """Take it."""


def short(model: nn.Module, batch: Any) -> Any:
    if len(batch[0]) < 4:
        raise ValueError("the last batch is short")
    return (model(batch[0]) - batch[1]).square().mean()


def failing_validation(model: nn.Module, batch: Any) -> Outputs:
    if not model.training:
        raise ValueError("not in evaluation mode")
    return Outputs((model(batch[0]) - batch[1]).square().mean())


FAILURES: dict[str, tuple[dict[str, Any], dict[str, Any], int, type[Exception], str]] = {
    "build": ({"optimizer": lambda model: None}, {}, 0, ArgumentTypeError, r"must be a recipe that returns a torch Optimizer"),
    "duration": ({}, {"epochs": None}, 0, ArgumentTypeError, r"rehearse needs to know when to end"),
    "short batch": ({"step": short}, {}, 1, ValueError, r"the last batch is short"),
    "metric": ({"callbacks": [EarlyStopping("valid/acuracy")]}, {}, 1, CallbackError, r"valid/acuracy"),
    "best": ({"checkpoints": Checkpoints("runs/never", best="valid/acuracy")}, {}, 1, CallbackError, r"valid/acuracy"),
    "callback at the end": ({"callbacks": [raising("on_fit_end", KeyError("end"))]}, {}, 1, CallbackError, r"in on_fit_end"),
    "validation": ({"step": failing_validation}, {}, 1, ValueError, r"not in evaluation mode"),
    "forgetful": ({"callbacks": [Forgetful()]}, {}, 2, CheckpointError, r"forgetful.*count.*is not what was saved"),
    "state": ({}, {"model": lambda: Unsaid(2, 1)}, 1, CheckpointError, r"a checkpoint holds tensors of a model"),
    "copy": (
        {"callbacks": [raising("on_fit_end", KeyError())]},
        {"model": type("Unique", (nn.Linear,), {"__deepcopy__": lambda self, memo: 1 / 0})(2, 1)},
        0,
        ArgumentTypeError,
        r"model cannot be copied",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_would_have_failed_is_said_and_nothing_is_left(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options, changed, place, error, message = FAILURES[name]
    given: dict[str, Any] = {
        "model": line(),
        "train": columns(21),
        "epochs": 1,
        "batch_size": 4,
        "validation": columns(),
        **changed,
    }
    model = given.pop("model")
    before = weights(model) if isinstance(model, nn.Module) else None
    found = trainer(**options).rehearse(model, given.pop("train"), **given)
    assert not found.ok
    assert type(found.acts[place].error) is error or isinstance(found.acts[place].error, error)
    assert all(act.error is None for act in found.acts[:place])
    with pytest.raises(error, match=message):
        found.raise_for_failure()
    assert "FAIL" in repr(found)
    assert list(tmp_path.iterdir()) == []
    assert before is None or weights(model) == before


def test_validations_are_looked_at_where_the_training_did_not_come_so_far() -> None:
    def broken(model: nn.Module, batch: Any) -> Any:
        if model.training:
            raise ValueError("no training")
        return (model(batch[0]) - batch[1]).square().mean()

    found = trainer(step=broken).rehearse(line(), columns(), epochs=1, validation={"a": columns(5), "b": columns(6)})
    assert [act.error is None for act in found.acts] == [True, False, True, True]
    assert found.acts[2].name == "validation 'a'"


def test_a_folder_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    found = trainer(checkpoints=tmp_path / "file" / "run").rehearse(line(), columns(), epochs=1)
    assert [type(error) for error in found.errors] == [CheckpointError]
    assert "no folder that can be written" in str(found.errors[0])


def test_the_logs_of_a_run_are_not_touched(tmp_path: Path) -> None:
    """Seen to fail when the copies write where the trainer's own do: the rehearsal then renames the logs of the last run."""

    class Own(Callback):
        writes = "path"

        def __init__(self, path: str) -> None:
            self.path = path

        def on_fit_start(self, run: Any, event: Any) -> None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            Path(self.path).write_text("mine")

    logs = [CSVLog(tmp_path / "a.csv"), JSONLines(tmp_path / "a.jsonl"), Own(str(tmp_path / "b" / "c.txt"))]
    made = trainer(callbacks=[*logs, Profile(tmp_path / "trace.json", after=1, updates=1)])
    found = made.rehearse(line(), columns(), epochs=1)
    assert found.ok, repr(found)
    assert list(tmp_path.iterdir()) == []
    assert [act.name for act in found.acts[3:]] == [
        f"the file {tmp_path / name}" for name in ("a.csv", "a.jsonl", "b/c.txt", "trace.json")
    ]
    trainer(callbacks=logs).fit(line(), columns(), epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) == 3
    assert made.rehearse(line(), columns(), epochs=1).ok
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_log_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    found = trainer(callbacks=[CSVLog(tmp_path / "file" / "a.csv")]).rehearse(line(), columns(), epochs=1)
    assert [type(error) for error in found.errors] == [CheckpointError]
    assert f"Choose another place than {tmp_path / 'file' / 'a.csv'}" in str(found.errors[0])


def test_an_unknown_argument_is_raised_at_once() -> None:
    with pytest.raises(ArgumentTypeError, match=r"rehearse has no argument 'epoch'"):
        trainer().rehearse(line(), columns(), epoch=1)  # type: ignore[call-arg]


def test_callbacks_take_part_as_copies() -> None:
    recorder = Recorder()
    assert trainer(callbacks=[recorder], optimizer=sgd()).rehearse(line(), columns(), epochs=1).ok
    assert recorder.seen == []


def test_one_batch_an_epoch_makes_two_updates_too() -> None:
    calls: list[Callable[[], None]] = []

    def step(model: nn.Module, batch: Any) -> Any:
        calls.append(lambda: None)
        return (model(batch[0]) - batch[1]).square().mean()

    assert trainer(step=step).rehearse(line(), columns(), epochs=1).ok
    assert len(calls) == 2
