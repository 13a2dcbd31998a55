from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchflow import Callback, Checkpoints, EarlyStopping, Resume, Trainer, supervised
from torchflow.checkpoint import files
from torchflow.errors import ArgumentTypeError, CheckpointError, MismatchError
from torchflow.randomness import generator

X = torch.randn(40, 2, generator=generator(0))
Y = X.sum(1, keepdim=True)


def network(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))


def trainer(folder: Path, **choices: Any) -> Trainer[nn.Module, Any]:
    choices = {"optimizer": lambda m: torch.optim.Adam(m.parameters(), lr=0.01), **choices}
    return Trainer(supervised(nn.MSELoss()), checkpoints=Checkpoints(folder), progress=False, **choices)


def fit(own: Trainer[nn.Module, Any], model: nn.Module, columns: tuple[Tensor, Tensor] = (X, Y), **fitted: Any) -> Any:
    return own.fit(model, columns, validation=(X, Y), **{"epochs": 2, **fitted})


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fit(trainer(tmp_path / "run"), network())
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("expected", "choices", "fitted"),
    [
        ("seed", {"seed": 1}, {}),
        ("accumulate", {"accumulate": 2}, {}),
        ("clip_norm", {"clip_norm": 1.0}, {}),
        ("nonfinite", {"nonfinite": "skip"}, {}),
        ("data/batch_size", {}, {"batch_size": 8}),
        ("data/last_batch", {}, {"last_batch": "drop"}),
        ("data/order", {}, {"shuffle": False}),
        ("data/length", {}, {"columns": (X[:39], Y[:39])}),
        ("data/content", {}, {"columns": (X + 1, Y)}),
        ("optimizers/main/groups/0/lr", {"optimizer": lambda m: torch.optim.Adam(m.parameters(), lr=0.02)}, {}),
        ("optimizers/main/class", {"optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=0.01)}, {}),
        ("schedulers/main", {"scheduler": lambda o: torch.optim.lr_scheduler.StepLR(o, 1)}, {}),
        ("callbacks/early_stopping", {"callbacks": [EarlyStopping("valid/loss")]}, {}),
    ],
)
def test_a_changed_recipe_is_refused_before_anything_is_touched(
    folder: Path, expected: str, choices: dict[str, Any], fitted: dict[str, Any]
) -> None:
    model = network()
    before, files = snapshot(model), sorted(folder.rglob("*"))
    with pytest.raises(MismatchError, match="does not fit this run, which is as it was") as caught:
        fit(trainer(folder, **choices), model, resume=True, **fitted)
    assert any(expected in line for line in caught.value.differences), caught.value.differences
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert sorted(folder.rglob("*")) == files


def test_every_difference_is_listed_at_once(folder: Path) -> None:
    with pytest.raises(MismatchError) as caught:
        fit(trainer(folder, seed=1, accumulate=2), network(width=4), resume=True, batch_size=8)
    listed = "\n".join(caught.value.differences)
    for part in ("seed", "accumulate", "data/batch_size", "model/0.weight", "model/0.bias", "model/2.weight"):
        assert part in listed


def test_without_strictness_what_fits_is_loaded_and_the_rest_is_said(folder: Path) -> None:
    trained = network()
    fit(trainer(folder), trained, resume=True)
    last_layer = nn.Linear(3, 2)
    other = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), last_layer)
    last = last_layer.weight.detach().clone()
    own = Trainer(
        supervised(nn.MSELoss()),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.5),
        checkpoints=Checkpoints(folder),
        progress=False,
    )
    columns = (X, Y.repeat(1, 2))
    with pytest.warns(UserWarning, match=r"loaded as far as it fits(.|\n)*model/2\.weight"):
        result = own.fit(other, columns, epochs=2, validation=columns, resume=Resume(strict=False))
    assert result.progress.epoch == 2
    assert torch.equal(other.state_dict()["0.weight"], trained.state_dict()["0.weight"])
    assert torch.equal(last_layer.weight, last)


def test_a_hyperparameter_that_is_meant_to_change_changes(folder: Path) -> None:
    faster = {"optimizer": lambda m: torch.optim.Adam(m.parameters(), lr=0.03)}
    rates: list[float] = []

    class Rates(Callback):
        def on_step_end(self, run: Any, event: Any) -> None:
            rates.append(event.learning_rates["main"])

    own = trainer(folder, callbacks=[Rates()], **faster)
    fit(own, network(), resume=Resume(override=["lr"]), epochs=3)
    assert set(rates) == {0.03}


def test_a_schedule_goes_on_from_a_changed_learning_rate(tmp_path: Path) -> None:
    def scheduled(lr: float, **choices: Any) -> Trainer[nn.Module, Any]:
        return trainer(
            tmp_path / "run",
            **choices,
            optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=lr),
            scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.5),
        )

    fit(scheduled(0.4), network())
    run: list[Any] = []

    class Kept(Callback):
        def on_fit_end(self, live: Any, event: Any) -> None:
            run.append(live)

    fit(scheduled(0.2, callbacks=[Kept()]), network(), resume=Resume(override=["lr"]), epochs=3)
    assert run[0].optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * 0.5**3)
    assert run[0].schedulings["main"].scheduler.base_lrs == [0.2]


def test_another_environment_is_said_and_refused_on_request(folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(MismatchError, match=r"another environment: .*threads"):
            fit(trainer(folder), network(), resume=Resume(same_environment=True), epochs=3)
        with pytest.warns(UserWarning, match=r"may differ in its last bits: .*threads"):
            fit(trainer(folder), network(), resume=True, epochs=3)
    finally:
        torch.set_num_threads(threads)


def test_resume_takes_names_and_switches() -> None:
    with pytest.raises(ArgumentTypeError, match=r"override=…\) must be a list of names such as \['lr'\], got 'lr'"):
        Resume(override="lr")
    with pytest.raises(ArgumentTypeError, match=r"strict=…\) must be True or False"):
        Resume(strict=1)  # type: ignore[arg-type]


def test_a_full_disk_stops_the_run_or_is_said_as_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, descriptor: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    for on_error in ("stop", "warn"):
        for background in (True, False):
            place = tmp_path / f"{on_error}-{background}"
            own = Trainer(
                supervised(nn.MSELoss()),
                optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.01),
                checkpoints=Checkpoints(place, on_error=on_error, background=background),
                progress=False,
            )
            run_json = files.FileSystem.write
            with monkeypatch.context() as patch:
                calls: list[int] = []

                def limited(self: Any, descriptor: int, data: memoryview, calls: list[int] = calls, write: Any = run_json) -> int:
                    calls.append(1)
                    return int(write(self, descriptor, data)) if len(calls) < 12 else full(self, descriptor, data)

                patch.setattr(files.FileSystem, "write", limited)
                if on_error == "stop":
                    with pytest.raises(CheckpointError, match="No space left on device"):
                        fit(own, network(), epochs=5)
                else:
                    assert fit(own, network(), epochs=5).progress.epoch == 5
            assert list((place / "checkpoints").glob("step-*"))
            assert fit(own, network(), epochs=6, resume=True).progress.epoch == 6


@pytest.mark.parametrize("restore_best", [False, True])
def test_a_compiled_model_and_the_model_it_was_compiled_from_share_checkpoints(tmp_path: Path, restore_best: bool) -> None:
    """The names of ``torch.compile(model)``, whole or in parts, are in no checkpoint, and neither in the best weights."""

    def compiled(what: str) -> nn.Module:
        model: Any = network()
        if what == "part":
            model[0] = torch.compile(model[0], backend="eager")
        return torch.compile(model, backend="eager") if what == "whole" else model  # type: ignore[return-value]

    def run(what: str, epochs: int, name: str, resume: bool = False) -> Any:
        stopping = EarlyStopping("valid/loss", patience=9, restore_best=restore_best)
        return fit(trainer(tmp_path / name, callbacks=[stopping]), compiled(what), epochs=epochs, resume=resume)

    expected = run("nothing", 3, "undisturbed")
    run("whole", 1, "run")
    run("nothing", 2, "run", resume=True)
    found = run("part", 3, "run", resume=True)
    for name, tensor in found.model.state_dict().items():
        assert torch.equal(tensor, expected.model.state_dict()[name.replace("_orig_mod.", "")])
    assert list(found.history.rows) == list(expected.history.rows)
