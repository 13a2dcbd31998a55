"""cross_validate(): each fold is a run that anybody could have made by hand, and nothing depends on anything but the seed."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.laws.problems import LossSum
from tests.small import Noisy, Untouched, columns, line, sgd, trainer, weights
from torchflow import (
    Callback,
    Checkpoints,
    CrossValidation,
    CSVLog,
    EarlyStopping,
    JSONLines,
    cross_validate,
    data,
    metrics,
    supervised,
)
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, TorchflowError

STEP = supervised(nn.MSELoss(), metrics={"distance": metrics.absolute_error})


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1), folds=st.integers(2, 5), samples=st.integers(5, 23), size=st.integers(1, 8), drawn=st.integers()
)
def test_every_fold_is_a_run_under_its_own_seed(seed: int, folds: int, samples: int, size: int, drawn: int) -> None:
    """Seen to fail when all folds run under the trainer's seed, and when a fold trains on what it is judged on."""
    points, given_to = columns(samples), trainer(step=STEP, seed=seed, callbacks=[LossSum()])
    torch.manual_seed(drawn & 0xFFFF)
    state = torch.get_rng_state()
    found = cross_validate(given_to, Noisy, points, folds=folds, max_updates=4, batch_size=size)
    assert torch.equal(torch.get_rng_state(), state)
    assert len({fold.seed for fold in found.folds}) == folds
    assert sum(fold.valid_samples for fold in found.folds) == samples
    for fold, (train, valid) in zip(found.folds, data.from_tensors(*points).kfold(folds, seed), strict=True):
        by_hand = trainer(step=STEP, seed=fold.seed)
        result = by_hand.fit(Noisy, train, max_updates=4, batch_size=size)
        assert weights(result.model) == weights(fold.result.model)
        assert by_hand.evaluate(result.model, valid, batch_size=size) == dict(fold.metrics)
    again = cross_validate(trainer(step=STEP, seed=seed), Noisy, points, folds=folds, max_updates=4, batch_size=size)
    assert [dict(fold.metrics) for fold in again.folds] == [dict(fold.metrics) for fold in found.folds]


def test_means_and_standard_errors_are_those_of_the_textbook() -> None:
    found = cross_validate(trainer(step=STEP), line, columns(23), folds=4, epochs=2, batch_size=5)
    for name in ("loss", "distance"):
        values = [fold.metrics[name] for fold in found.folds]
        assert found.means[name] == statistics.fmean(values)
        assert found.standard_errors[name] == pytest.approx(statistics.stdev(values) / 2)
    assert list(found.means) == ["loss", "distance"]


def test_the_table_has_a_line_for_each_fold_and_the_totals() -> None:
    found = cross_validate(trainer(step=STEP), line, columns(20), folds=4, epochs=2, batch_size=5)
    lines = [row.split() for row in repr(found).splitlines()]
    assert lines[0] == ["fold", "train", "valid", "updates", "loss", "distance"]
    assert lines[2][:4] == ["0", "15", "5", "6"]
    assert lines[-2] == ["mean", f"{found.means['loss']:.4g}", f"{found.means['distance']:.4g}"]
    assert lines[-1][:2] == ["standard", "error"]
    assert len(lines) == 2 + 4 + 1 + 2


def test_classes_groups_and_time_divide_as_kfold_does() -> None:
    x, y = columns(24)
    classes = [n % 3 for n in range(24)]
    groups = [n // 4 for n in range(24)]
    by_class = cross_validate(trainer(), line, (x, y), folds=4, epochs=1, stratify=classes)
    assert [fold.valid_samples for fold in by_class.folds] == [6] * 4
    by_group = cross_validate(trainer(), line, (x, y), folds=3, epochs=1, group=groups)
    assert [fold.valid_samples for fold in by_group.folds] == [8] * 3
    by_time = cross_validate(trainer(), line, (x, y), folds=3, epochs=1, time=True, gap=1)
    assert [(fold.train_samples, fold.valid_samples) for fold in by_time.folds] == [(5, 6), (11, 6), (17, 6)]


def test_encoders_learn_from_each_fold_s_training_part() -> None:
    seen: list[tuple[int, int]] = []

    def prepare(train: Any, valid: Any) -> tuple[Any, Any]:
        seen.append((len(train), len(valid)))
        scale = data.Standardize(0).fit(train)
        return train.map_batch(scale), valid.map_batch(scale)

    cross_validate(trainer(), line, columns(20), folds=4, epochs=1, prepare=prepare)
    assert seen == [(15, 5)] * 4


def test_the_trainer_stays_as_it_was_and_its_callbacks_watch_the_held_out_samples() -> None:
    stopping = EarlyStopping("valid/loss", patience=1)
    made = trainer(callbacks=[stopping], optimizer=sgd(5.0), seed=3)
    found = cross_validate(made, line, columns(20), folds=2, epochs=50)
    assert all("valid/loss" in fold.result.reason for fold in found.folds)
    assert made.choices.seed == 3
    fitted = made.fit(line(), columns(), epochs=2, validation=columns())
    assert weights(fitted.model) == weights(trainer(optimizer=sgd(5.0), seed=3).fit(line(), columns(), epochs=2).model)


def test_folds_have_folders_of_their_own_and_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    def made(**options: Any) -> CrossValidation[Any]:
        saved = trainer(step=STEP, checkpoints=Checkpoints(tmp_path / "run", background=False), **options)
        return cross_validate(saved, Noisy, columns(20), folds=2, epochs=3, resume=True)

    calls: list[int] = []

    def breaking(model: Any, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 10:  # in the second fold: a fold makes 3 updates and looks at its held-out samples 4 times
            raise KeyboardInterrupt
        return STEP(model, batch)

    plain = cross_validate(trainer(step=STEP), Noisy, columns(20), folds=2, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(
            trainer(step=breaking, checkpoints=Checkpoints(tmp_path / "run", background=False)),
            Noisy,
            columns(20),
            folds=2,
            epochs=3,
        )
    assert (tmp_path / "run" / "fold-0").is_dir()
    went_on = made()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["fold-0", "fold-1"]
    assert [dict(fold.metrics) for fold in went_on.folds] == [dict(fold.metrics) for fold in plain.folds]


def test_each_fold_has_logs_of_its_own_after_a_resume_too(tmp_path: Path) -> None:
    """Seen to fail when all folds write to the trainer's files: the first fold that is resumed cuts off what the last one wrote."""
    log = CSVLog(tmp_path / "a.csv")
    logs = [log, JSONLines(tmp_path / "logs" / "a.jsonl")]
    made = trainer(step=STEP, callbacks=logs, checkpoints=Checkpoints(tmp_path / "run", background=False))
    cross_validate(made, Noisy, columns(20), folds=2, epochs=3)
    files = {path: path.read_bytes() for path in tmp_path.rglob("a.*")}
    assert set(files) == {tmp_path / f"fold-{n}" / "a.csv" for n in (0, 1)} | {
        tmp_path / "logs" / f"fold-{n}" / "a.jsonl" for n in (0, 1)
    }
    assert [len(content.splitlines()) for path, content in sorted(files.items())] == [4, 4, 7, 7]
    cross_validate(made, Noisy, columns(20), folds=2, epochs=3, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("a.*")} == files
    assert log.path == tmp_path / "a.csv"


def test_the_folder_of_a_fold_is_in_that_of_a_log_that_is_a_folder(tmp_path: Path) -> None:
    class Pages(Callback):
        writes = "folder"

        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def on_fit_end(self, run: Any, event: Any) -> None:
            self.folder.mkdir(parents=True)

    cross_validate(trainer(step=STEP, callbacks=[Pages(tmp_path / "pages")]), Noisy, columns(20), folds=2, epochs=1)
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["fold-0", "fold-1"]


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "trainer": ({"trainer": None}, ArgumentTypeError, r"trainer must be a Trainer, got None"),
    "model": (
        {"model": line()},
        ArgumentTypeError,
        r"model must be a recipe that makes a fresh model for each fold, got a Linear.*lambda",
    ),
    "model text": ({"model": "resnet"}, ArgumentTypeError, r"model must be a function"),
    "recipe": ({"model": lambda: None}, ArgumentTypeError, r"model is a recipe that must return an nn\.Module"),
    "data": ({"data": None}, ArgumentTypeError, r"data must be .*got None"),
    "empty": ({"data": columns(0)}, DataError, r"data has no samples"),
    "loader": (
        {"data": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(2)))},
        ArgumentTypeError,
        r"DataLoader only yields\. Pass its dataset",
    ),
    "folds one": ({"folds": 1}, ArgumentValueError, r"folds must be an int of at least 2"),
    "folds many": ({"folds": 50}, ArgumentValueError, r"folds must be at most the number of samples, 20"),
    "two rules": ({"group": [1] * 20, "stratify": [1] * 20}, ArgumentTypeError, r"exclude each other"),
    "duration": ({"epochs": None}, ArgumentTypeError, r"cross_validate needs to know when to end"),
    "epochs": ({"epochs": 0}, ArgumentValueError, r"epochs must be an int of at least 1"),
    "validation": ({"validation": columns()}, ArgumentTypeError, r"cross_validate has no argument 'validation'.*epochs"),
    "unknown": ({"bacth_size": 3}, ArgumentTypeError, r"cross_validate has no argument 'bacth_size'.*batch_size"),
    "batch size": ({"batch_size": 0}, ArgumentValueError, r"batch_size must be"),
    "validate": ({"validate": 3}, ArgumentTypeError, r"validate must be an interval"),
    "resume": ({"resume": True}, ArgumentValueError, r"resume needs a folder"),
    "prepare": ({"prepare": 3}, ArgumentTypeError, r"prepare must be a function, got 3"),
    "prepare one": ({"prepare": lambda train, valid: train}, ArgumentTypeError, r"prepare must return the pair \(train, valid\)"),
    "drop": ({"last_batch": "drop", "batch_size": 17}, ArgumentValueError, r"leaves none of train: 16 samples"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_before_anything_starts(tmp_path: Path, name: str) -> None:
    changed, error, message = WRONG[name]
    updates: list[int] = []

    def step(model: Any, batch: Any) -> Any:
        updates.append(1)
        return STEP(model, batch)

    given: dict[str, Any] = {"trainer": trainer(step=step), "model": line, "data": columns(), "epochs": 1, **changed}
    with Untouched(tmp_path / "run"), pytest.raises(error, match=message) as raised:
        cross_validate(given.pop("trainer"), given.pop("model"), given.pop("data"), **given)
    assert isinstance(raised.value, TorchflowError)
    assert updates == []
