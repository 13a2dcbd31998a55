from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LinearLR, OneCycleLR, ReduceLROnPlateau, SequentialLR, StepLR

import torchflow
from tests.small import Recorder, columns, flat, reacting, sgd, state_of, trainer, weights
from torchflow import Callback, EarlyStopping, Every, Resume, Schedule, metrics, supervised
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CallbackError, CheckpointError, MismatchError


class Net(nn.Module):
    def __init__(self, hidden: int = 4, name: str = "last") -> None:
        super().__init__()
        self.first = nn.Linear(2, hidden)
        self.add_module(name, nn.Linear(hidden, 1))
        self.name = name

    def forward(self, x: Any) -> Any:
        return self.get_submodule(self.name)(torch.tanh(self.first(x)))


class Counts(Callback):
    """A callback whose state is empty until the first update."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def on_step_end(self, run: Any, event: Any) -> None:
        self.seen["updates"] = event.progress.updates

    def state(self) -> Any:
        return dict(self.seen)

    def load_state(self, state: Any) -> None:
        self.seen = dict(state)


def start(model: Any = Net, data: Any = None, fit: dict[str, Any] | None = None, **options: Any) -> Any:
    options = {"optimizer": sgd(0.1, momentum=0.9), **options}
    return trainer(**options).start(model, columns() if data is None else data, **(fit or {"batch_size": 4}))


def trained(updates: int = 3, **options: Any) -> Any:
    run = start(**options)
    for _ in torchflow.events(run, max_updates=updates):
        pass
    return run


def test_what_was_saved_is_loaded_to_the_last_bit_and_goes_on_alike(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "scheduler": lambda opt: StepLR(opt, 1, 0.5),
        "callbacks": {"stopping": EarlyStopping("train/loss", patience=9), "counts": Counts()},
        "step": supervised(nn.MSELoss(), metrics={"r2": metrics.R2()}),
    }
    run = trained(7, **options)
    folder = torchflow.save(run, tmp_path / "run")
    assert folder.is_relative_to(tmp_path / "run")
    other = start(**{**options, "callbacks": {"stopping": EarlyStopping("train/loss", patience=9), "counts": Counts()}})
    model = other.model
    torchflow.load(other, tmp_path / "run")
    assert other.model is model
    assert state_of(other) == state_of(run)
    for each in (run, other):
        for _ in torchflow.events(each, epochs=4):
            pass
    assert state_of(other) == state_of(run)


def test_saving_keeps_the_newest_two(tmp_path: Path) -> None:
    run = start()
    for batch in list(run.batches.epoch(0))[:4]:
        torchflow.update(run, [batch])
        torchflow.save(run, tmp_path)
    assert len([path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]) == 2
    other = start()
    torchflow.load(other, tmp_path)
    assert other.progress == run.progress


def test_a_folder_without_a_checkpoint_cannot_be_loaded(tmp_path: Path) -> None:
    run = start()
    before = state_of(run)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=r"holds no checkpoint\. Save one first: torchflow\.save\(run, "):
            torchflow.load(run, folder)
    assert state_of(run) == before
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "hook", ["on_fit_start", "on_epoch_start", "on_gradients", "on_step_end", "on_validation_end", "on_epoch_end"]
)
@pytest.mark.parametrize("action", ["save", "load"])
def test_saving_and_loading_inside_a_hook_is_refused(tmp_path: Path, hook: str, action: str) -> None:
    torchflow.save(start(), tmp_path / "there")
    folder = tmp_path / ("new" if action == "save" else "there")

    def react(run: Any, event: Any) -> None:
        getattr(torchflow, action)(run, folder)

    with pytest.raises(CallbackError) as raised:
        trainer(callbacks=[reacting(hook, react)]).fit(Net, columns(), epochs=1, validation=columns(4))
    assert isinstance(raised.value.__cause__, CheckpointError)
    assert "in the middle of an update or of its callbacks" in str(raised.value)
    assert "Checkpoints(folder) to the Trainer, which saves after every callback" in str(raised.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("folder", [3, None, b"runs"])
def test_a_folder_is_a_path(folder: Any) -> None:
    run = start()
    for action in (torchflow.save, torchflow.load):
        with pytest.raises(ArgumentTypeError, match=r"folder must be a path as str or pathlib\.Path, got"):
            action(run, folder)
        with pytest.raises(ArgumentValueError, match="folder must be a path that is not empty"):
            action(run, "")


# Differences


def frozen_first(net: Net | None = None) -> Net:
    made = net or Net()
    made.first.requires_grad_(False)
    return made


DIFFERENCES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "renamed": ({"model": lambda: Net(name="head")}, ["model/last.weight: stored", "model/head.weight: not stored"]),
    "other shape": (
        {"model": lambda: Net(5)},
        ["model/first.weight: stored as a tensor (4, 2) of float32, live as a tensor (5, 2)"],
    ),
    "other dtype": (
        {"model": lambda: Net().double(), "data": tuple(c.double() for c in columns())},
        ["of float32, live as a tensor (4, 2) of float64"],
    ),
    "frozen": ({"model": frozen_first}, ["frozen"]),
    "optimizer class": (
        {"optimizer": lambda m: torch.optim.Adam(m.parameters(), lr=0.1)},
        ["optimizers/main/class: stored as 'SGD'"],
    ),
    "groups": (
        {
            "optimizer": lambda m: torch.optim.SGD(
                [{"params": m.first.parameters()}, {"params": m.last.parameters()}], lr=0.1, momentum=0.9
            )
        },
        ["optimizers/main/groups/1: not stored"],
    ),
    "optimizer name": (
        {"optimizer": {"other": sgd(0.1, momentum=0.9)}},
        ["optimizers/main: stored", "optimizers/other: not stored"],
    ),
    "lr": ({"optimizer": sgd(0.2, momentum=0.9)}, ["optimizers/main/groups/0/lr: stored as 0.1 (float), live as 0.2 (float)"]),
    "momentum": ({"optimizer": sgd(0.1, momentum=0.8)}, ["optimizers/main/groups/0/momentum: stored as 0.9"]),
    "missing callback": ({"callbacks": {}}, ["callbacks/counts: stored", "callbacks/stopping: stored"]),
    "new callback": (
        {"callbacks": {"counts": Counts(), "stopping": EarlyStopping("train/loss"), "more": EarlyStopping("train/loss")}},
        ["callbacks/more: not stored"],
    ),
    "dataset length": ({"data": columns(24)}, ["data/length: stored as 20 (int), live as 24 (int)"]),
    "batch size": ({"fit": {"batch_size": 5}}, ["data/batch_size: stored as 4 (int), live as 5 (int)"]),
    "order": ({"fit": {"batch_size": 4, "shuffle": False}}, ["data/order: stored"]),
    "last batch": ({"fit": {"batch_size": 4, "last_batch": "drop"}}, ["data/last_batch: stored as 'keep'"]),
    "seed": ({"seed": 1}, ["seed: stored as 0 (int), live as 1 (int)"]),
    "accumulate": ({"accumulate": 2}, ["accumulate: stored as 1 (int), live as 2 (int)"]),
    "clip": ({"clip_norm": 1.0}, ["clip_norm: stored as None"]),
    "nonfinite": ({"nonfinite": "skip"}, ["nonfinite: stored as 'raise'"]),
    "scheduler": ({"scheduler": lambda opt: ExponentialLR(opt, 0.5)}, ["schedulers/main"]),
    "schedule": ({"scheduler": lambda opt: StepLR(opt, 3, 0.5)}, ["schedulers/main/step_size: stored as 1 (int), live as 3 (int)"]),
    "no scheduler": ({"scheduler": None}, ["schedulers/main: stored"]),
    "metric object": ({"step": supervised(nn.MSELoss())}, ["metrics/r2: stored"]),
}


def choices() -> dict[str, Any]:
    return {
        "callbacks": {"counts": Counts(), "stopping": EarlyStopping("train/loss")},
        "scheduler": lambda opt: StepLR(opt, 1, 0.5),
        "step": supervised(nn.MSELoss(), metrics={"r2": metrics.R2()}),
    }


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_run_that_was_built_otherwise_is_refused_with_every_difference_and_stays_as_it_is(tmp_path: Path, name: str) -> None:
    torchflow.save(trained(**choices()), tmp_path)
    changed, expected = DIFFERENCES[name]
    other = start(**{**choices(), **copy.copy(changed)})
    before = state_of(other)
    with pytest.raises(MismatchError) as raised:
        torchflow.load(other, tmp_path)
    assert state_of(other) == before
    text = str(raised.value)
    assert "does not fit this run, which is as it was" in text
    assert "Build the run as it was built then; Resume(override=['lr'])" in text
    assert f"{len(raised.value.differences)} difference(s)" in text
    for words in expected:
        assert any(words in line for line in raised.value.differences), raised.value.differences
        assert words in text


def test_all_differences_are_listed_at_once(tmp_path: Path) -> None:
    torchflow.save(trained(**choices()), tmp_path)
    other = start(model=lambda: Net(5), data=columns(24), seed=3, optimizer=sgd(0.3, momentum=0.9), callbacks={})
    with pytest.raises(MismatchError) as raised:
        torchflow.load(other, tmp_path)
    listed = " ".join(raised.value.differences)
    for words in ("seed", "data/length", "groups/0/lr", "model/first.weight", "callbacks/stopping", "schedulers/main"):
        assert words in listed


def test_callbacks_without_state_may_come_and_go(tmp_path: Path) -> None:
    torchflow.save(trained(callbacks={"watch": Recorder()}), tmp_path)
    run = start(callbacks={"other": Recorder()})
    torchflow.load(run, tmp_path)
    assert run.progress.updates == 3


def test_a_callback_whose_state_was_empty_at_the_start_is_no_difference(tmp_path: Path) -> None:
    torchflow.save(trained(callbacks=[Counts()]), tmp_path)
    counts = Counts()
    torchflow.load(start(callbacks=[counts]), tmp_path)
    assert counts.seen == {"updates": 3}
    torchflow.save(start(callbacks=[Counts()]), tmp_path / "early")
    torchflow.load(start(callbacks=[Counts()]), tmp_path / "early")


# What is meant to differ


def test_an_overridden_rate_replaces_the_stored_one(tmp_path: Path) -> None:
    torchflow.save(trained(), tmp_path)
    run = start(optimizer=sgd(0.02, momentum=0.9))
    torchflow.load(run, tmp_path, resume=Resume(override=["lr"]))
    assert run.optimizer.param_groups[0]["lr"] == 0.02
    assert run.optimizer.param_groups[0]["momentum"] == 0.9


def test_an_overridden_tuple_replaces_the_stored_one(tmp_path: Path) -> None:
    def adam(betas: tuple[float, float]) -> Any:
        return lambda m: torch.optim.Adam(m.parameters(), lr=0.1, betas=betas)

    torchflow.save(trained(optimizer=adam((0.9, 0.999))), tmp_path)
    run = start(optimizer=adam((0.8, 0.99)))
    with pytest.raises(MismatchError, match="betas"):
        torchflow.load(run, tmp_path, resume=Resume(override=["lr"]))
    torchflow.load(run, tmp_path, resume=Resume(override=["betas"]))
    assert run.optimizer.param_groups[0]["betas"] == (0.8, 0.99)


@pytest.mark.parametrize("name", ["seed", "length", "batch_size", "class", "names", "accumulate"])
def test_only_hyperparameters_of_optimizers_can_be_overridden(tmp_path: Path, name: str) -> None:
    torchflow.save(trained(), tmp_path)
    others: dict[str, dict[str, Any]] = {
        "seed": {"seed": 2},
        "length": {"data": columns(23)},
        "batch_size": {"fit": {"batch_size": 5}},
        "class": {"optimizer": lambda m: torch.optim.Adam(m.parameters())},
        "names": {"optimizer": lambda m: torch.optim.SGD(reversed(list(m.parameters())), lr=0.1, momentum=0.9)},
        "accumulate": {"accumulate": 2},
    }
    run = start(**others[name])
    before = state_of(run)
    with pytest.raises(MismatchError, match=name):
        torchflow.load(run, tmp_path, resume=Resume(override=[name]))
    assert state_of(run) == before


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda opt: StepLR(opt, 1, 0.5),
    "ExponentialLR": lambda opt: ExponentialLR(opt, 0.5),
    "LambdaLR": lambda opt: LambdaLR(opt, lambda n: 0.9**n),
    "SequentialLR": lambda opt: SequentialLR(opt, [LinearLR(opt, 0.5, total_iters=2), LambdaLR(opt, lambda n: 0.9**n)], [2]),
    "ReduceLROnPlateau": lambda opt: None,
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_overridden_rate_moves_on_with_its_schedule(tmp_path: Path, name: str) -> None:
    schedule: Any = SCHEDULES[name]
    if name == "ReduceLROnPlateau":
        schedule = Schedule(lambda opt, plan: ReduceLROnPlateau(opt, patience=0, threshold=0.9), Every(epochs=1), "train/loss")
    first = start(optimizer=sgd(0.1), scheduler=schedule)
    for _ in torchflow.events(first, epochs=3):
        pass
    torchflow.save(first, tmp_path)
    run = start(optimizer=sgd(0.01), scheduler=schedule)
    torchflow.load(run, tmp_path, resume=Resume(override=["lr"]))
    old, new = first.optimizer.param_groups[0], run.optimizer.param_groups[0]
    assert new["lr"] == pytest.approx(old["lr"] / 10)
    for each in (first, run):
        for _ in range(3):
            each.schedulings["main"].step(*([1e9] if name == "ReduceLROnPlateau" else []))
    assert new["lr"] == pytest.approx(old["lr"] / 10)
    assert old["lr"] < 0.1


def test_a_schedule_that_has_moved_the_rate_is_no_difference_but_one_of_another_length_is(tmp_path: Path) -> None:
    def schedule(steps: int) -> Any:
        return lambda opt: OneCycleLR(opt, 0.3, total_steps=steps, cycle_momentum=False)

    torchflow.save(trained(8, scheduler=schedule(20)), tmp_path)
    torchflow.load(start(scheduler=schedule(20)), tmp_path)
    with pytest.raises(MismatchError, match=r"total_steps: stored as 20 .*(?s:.*)wants the same epochs as before"):
        torchflow.load(start(scheduler=schedule(30)), tmp_path)


@pytest.mark.parametrize("override", ["lr", [3], 5, None])
def test_what_is_overridden_is_a_list_of_names(override: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Resume\(override=…\) must be a list of names such as \['lr'\], got"):
        Resume(override=override)


def test_another_environment_is_said_and_no_refusal(tmp_path: Path) -> None:
    torchflow.save(trained(deterministic=True), tmp_path)
    with pytest.warns(UserWarning, match="the resumed run may differ in its last bits: .*deterministic"):
        torchflow.load(start(deterministic=False), tmp_path)


def test_loading_twice_and_training_between_leaves_no_trace(tmp_path: Path) -> None:
    run = trained()
    torchflow.save(run, tmp_path)
    before = state_of(run)
    for _ in torchflow.events(run, max_updates=9):
        pass
    assert state_of(run) != before
    torchflow.load(run, tmp_path)
    assert state_of(run) == before


def test_without_strictness_what_fits_is_loaded_and_the_rest_is_said(tmp_path: Path) -> None:
    first = trained(**choices())
    torchflow.save(first, tmp_path)
    other = start(
        **{**choices(), "model": lambda: Net(name="head"), "callbacks": {"counts": Counts(), "more": EarlyStopping("train/loss")}}
    )
    head = dict(flat(other.model.get_submodule("head").state_dict()))
    with pytest.warns(UserWarning, match=r"was loaded as far as it fits; .*(?s:.*)model/last\.weight(?s:.*)callbacks/stopping"):
        torchflow.load(other, tmp_path, resume=Resume(strict=False))
    stored, live = weights(first.model), weights(other.model)
    assert live["/first.weight"] == stored["/first.weight"]
    assert dict(flat(other.model.get_submodule("head").state_dict())) == head
    assert other.progress == first.progress
    assert other.callbacks["counts"].state() == {"updates": 3}


def test_metric_objects_that_differ_keep_the_live_averages(tmp_path: Path) -> None:
    torchflow.save(trained(**choices()), tmp_path)
    run = start(**{**choices(), "step": supervised(nn.MSELoss())})
    with pytest.warns(UserWarning, match="metrics/r2"):
        torchflow.load(run, tmp_path, resume=Resume(strict=False))
    assert run.progress.updates == 3


def test_another_environment_may_be_refused(tmp_path: Path) -> None:
    torchflow.save(trained(deterministic=True), tmp_path)
    run = start(deterministic=False)
    before = state_of(run)
    with pytest.raises(MismatchError, match=r"was written in another environment: .*deterministic"):
        torchflow.load(run, tmp_path, resume=Resume(same_environment=True))
    assert state_of(run) == before
