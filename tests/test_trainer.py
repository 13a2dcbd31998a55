from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

import torchflow
from tests.small import Noisy, Recorder, columns, line, reacting, sgd, trainer, weights
from torchflow import Callback, EarlyStopping, Every, History, Progress, Result, Stop, Trainer, data, metrics, supervised
from torchflow.building import build_model, named_callbacks, named_validations, snake_case
from torchflow.randomness import Keys


def test_a_trainer_is_reusable_a_second_fit_equals_the_first() -> None:
    made = trainer(
        callbacks=[EarlyStopping("valid/loss", patience=3)],
        scheduler=lambda opt: StepLR(opt, 2, 0.5),
        optimizer=sgd(momentum=0.9),
        step=supervised(nn.MSELoss(), metrics={"r2": metrics.R2()}),
    )
    results = [made.fit(Noisy, columns(), batch_size=4, epochs=5, validation=columns(6, seed=1)) for _ in range(2)]
    assert weights(results[0].model) == weights(results[1].model)
    assert results[0].history.rows == results[1].history.rows
    assert (results[0].reason, results[0].progress) == (results[1].reason, results[1].progress)
    assert results[0].model is not results[1].model


def test_callbacks_are_put_back_to_their_state_at_construction() -> None:
    class Counting(Callback):
        def __init__(self) -> None:
            self.numbers = [7]

        def on_step_end(self, run: Any, event: Any) -> None:
            self.numbers.append(event.progress.updates)

        def state(self) -> Any:
            return {"numbers": self.numbers}

        def load_state(self, state: Any) -> None:
            self.numbers = state["numbers"]

    counting = Counting()
    made = trainer(callbacks=[counting])
    for _ in range(3):
        made.fit(line(), columns(8), batch_size=4, epochs=1)
        assert counting.numbers == [7, 1, 2]


def test_a_recipe_of_a_model_is_called_under_its_own_key() -> None:
    drawn: list[float] = []

    def recipe() -> nn.Module:
        drawn.append(torch.rand(()).item())
        return nn.Linear(2, 1)

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = build_model(recipe, Keys(0))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert weights(build_model(recipe, Keys(0))) == weights(first)
    assert weights(build_model(recipe, Keys(1))) != weights(first)
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_model_is_trained_in_place_and_a_class_is_a_recipe() -> None:
    model = line()
    result = trainer().fit(model, columns(), epochs=1)
    assert result.model is model
    assert isinstance(trainer().fit(Noisy, columns(), epochs=1).model, Noisy)


def test_a_result_says_how_it_ended() -> None:
    result = trainer().fit(line(), columns(12), epochs=2, batch_size=4, validation=columns(4))
    assert isinstance(result, Result)
    assert isinstance(result.history, History)
    assert result.progress == Progress(2, 0, 6, 24, 6)
    train, valid = (result.history.last[name] for name in ("train/loss", "valid/loss"))
    assert repr(result) == f"Result(all 2 epochs are done; 6 updates; train/loss {train:.4g}, valid/loss {valid:.4g})"
    assert repr(Result(line(), "nothing was done", History(), Progress())) == "Result(nothing was done; 0 updates)"


X, Y = columns(12)


class Foreign(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]


def as_dict(model: nn.Module, batch: Any) -> Any:
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


@pytest.mark.parametrize(
    ("given", "step"),
    [
        ((X, Y), None),
        ((X.numpy(), Y.numpy()), None),
        ({"x": X, "y": Y}, as_dict),
        ([(x, y) for x, y in zip(X, Y, strict=True)], None),
        (TensorDataset(X, Y), None),
        (Foreign(), None),
        (data.from_tensors((X, Y)), None),
    ],
    ids=["tuple", "arrays", "dict", "list", "TensorDataset", "foreign", "Dataset"],
)
def test_all_kinds_of_data_train_alike(given: Any, step: Any) -> None:
    result = trainer(step=step).fit(line(), given, epochs=2, batch_size=5, validation=given)
    expected = trainer().fit(line(), (X, Y), epochs=2, batch_size=5, validation=(X, Y))
    assert weights(result.model) == weights(expected.model)
    assert result.history.rows == expected.history.rows


def test_a_loader_is_read_as_it_comes() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=5)
    result = trainer().fit(line(), loader, epochs=2, validation=loader)
    expected = trainer().fit(line(), (X, Y), epochs=2, batch_size=5, shuffle=False, validation=(X, Y))
    assert weights(result.model) == weights(expected.model)


def test_one_validation_is_called_valid_and_a_mapping_names_its_own() -> None:
    assert named_validations(None) == {}
    one = columns()
    assert named_validations(one) == {"valid": one}
    batch = {"x": X, "y": Y}
    assert named_validations(batch) == {"valid": batch}
    both = {"a": one, "b": batch}
    assert named_validations(both) == both
    arrays = {"x": X.numpy()}
    assert named_validations(arrays) == {"valid": arrays}
    boxes = {"image": X, "boxes": (X, Y)}  # columns as deep as they go, some of them bare: samples are dicts
    assert named_validations(boxes) == {"valid": boxes}
    mixed = {"a": X, "b": [1, 2]}
    assert named_validations(mixed) == mixed
    result = trainer().fit(line(), columns(), epochs=1, validation={"a": columns(4), "b": columns(5)})
    assert set(result.history.last) == {"train/loss", "a/loss", "b/loss"}


def test_an_optimizer_of_the_models_parameters_is_taken_as_it_is() -> None:
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    result = trainer(optimizer=optimizer).fit(model, columns(), epochs=2)
    assert weights(result.model) == weights(trainer().fit(line(), columns(), epochs=2).model)
    run = trainer(optimizer={"a": optimizer}).start(model, columns())
    assert run.optimizers == {"a": optimizer}
    assert run.optimizer is optimizer


def test_several_optimizers_step_together_each_with_its_own_schedule() -> None:
    def of(name: str, lr: float) -> Any:
        return lambda model: torch.optim.SGD([getattr(model, name)], lr=lr)

    made = trainer(
        optimizer={"w": of("weight", 0.1), "b": of("bias", 0.2)},
        scheduler={"b": lambda opt: StepLR(opt, 1, 0.5)},
    )
    run = made.start(line(), columns(8), batch_size=4)
    seen = [dict(event.learning_rates) for event in torchflow.events(run, epochs=2) if isinstance(event, torchflow.Stepped)]
    assert seen == [{"w": 0.1, "b": 0.2}] * 2 + [{"w": 0.1, "b": 0.1}] * 2
    assert weights(run.model)["/weight"] != weights(line())["/weight"]
    assert weights(run.model)["/bias"] != weights(line())["/bias"]


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))


@pytest.mark.parametrize(
    ("samples", "options", "warned"),
    [
        (9, {"batch_size": 4}, True),
        (33, {}, True),
        (9, {"batch_size": 4, "last_batch": "drop"}, False),
        (9, {"batch_size": 4, "last_batch": "pad"}, False),
        (8, {"batch_size": 4}, False),
        (10, {"batch_size": 4}, False),
    ],
)
def test_a_last_batch_of_one_sample_under_batchnorm_is_warned_of_at_the_start(
    samples: int, options: dict[str, Any], warned: bool
) -> None:
    made = trainer()
    if warned:
        with pytest.warns(UserWarning, match=r"the last batch of every epoch has one sample .*BatchNorm .*last_batch='drop'"):
            made.start(Normed, columns(samples), **options)
    made.start(line(), columns(samples), **options)
    if not warned:
        made.start(Normed, columns(samples), **options)


def test_a_loader_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer().start(Normed, DataLoader(TensorDataset(X, Y), batch_size=11))


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    trainer().fit(line(), columns(), epochs=3, validation=columns(4))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize("progress", [True, None])
def test_elsewhere_than_in_a_terminal_every_epoch_has_one_line(capsys: pytest.CaptureFixture[str], progress: bool | None) -> None:
    trainer(progress=progress).fit(line(), columns(), epochs=3, validation=columns(4))
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).strip().splitlines()
    assert sum("valid/loss" in text for text in lines) == 3


def test_nothing_is_written_unless_asked_for(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = trainer(callbacks=[EarlyStopping("valid/loss")])
    result = made.fit(line(), columns(), epochs=2, validation=columns(4))
    made.evaluate(result.model, columns())
    made.predict(result.model, columns())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_enough_for_checkpoints(tmp_path: Any) -> None:
    for folder in (str(tmp_path / "a"), tmp_path / "b"):
        trainer(checkpoints=folder).fit(line(), columns(), epochs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_names_of_callbacks_are_their_classes_in_snake_case_or_the_keys() -> None:
    assert [snake_case(name) for name in ("EarlyStopping", "EMA", "MyEMAWeights", "Layer2Norm", "x")] == [
        "early_stopping",
        "ema",
        "my_ema_weights",
        "layer2_norm",
        "x",
    ]
    one, two = Recorder(), Recorder()
    assert named_callbacks([one]) == {"recorder": one}
    assert named_callbacks({"a": one, "b": two}) == {"a": one, "b": two}
    assert named_callbacks(()) == {}


def test_a_run_gives_callbacks_generators_of_their_own() -> None:
    seen: dict[str, list[float]] = {"a": [], "b": []}

    def drawing(name: str) -> Callback:
        return reacting("on_step_end", lambda run, event: seen[name].append(torch.rand((), generator=run.generator(name)).item()))

    made = trainer(callbacks={"a": drawing("a"), "b": drawing("b")})
    made.fit(line(), columns(), batch_size=5, epochs=1)
    first = {name: list(values) for name, values in seen.items()}
    assert len({*first["a"], *first["b"]}) == 8
    seen["a"].clear()
    trainer(callbacks={"a": drawing("a")}).fit(line(), columns(), batch_size=5, epochs=1)
    assert seen["a"] == first["a"]


def test_workers_change_nothing() -> None:
    results = [trainer().fit(line(), columns(), batch_size=3, epochs=2, workers=workers) for workers in (0, 2)]
    assert weights(results[0].model) == weights(results[1].model)


def test_a_custom_collate_makes_the_batches() -> None:
    rows = [(x, y) for x, y in zip(X, Y, strict=True)]

    def collate(samples: list[Any]) -> Any:
        return torch.stack([x for x, _ in samples]), torch.stack([y for _, y in samples])

    result = trainer().fit(line(), rows, epochs=1, batch_size=5, collate=collate)
    assert weights(result.model) == weights(trainer().fit(line(), (X, Y), epochs=1, batch_size=5).model)


@pytest.mark.parametrize("deterministic", [True, False, None])
def test_kernels_are_deterministic_for_the_duration_of_a_call(deterministic: bool | None) -> None:
    seen: list[bool] = []

    def step(model: nn.Module, batch: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    made = trainer(step=step, deterministic=deterministic)
    made.fit(line(), columns(), epochs=1)
    assert seen == [deterministic is not False]
    assert not torch.are_deterministic_algorithms_enabled()


def test_evaluation_uses_the_same_kernels_as_validation() -> None:
    seen: list[bool] = []

    def step(model: nn.Module, batch: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    trainer(step=step, deterministic=True).evaluate(line(), columns())
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_start_takes_what_fit_takes_and_trains_nothing() -> None:
    run = trainer().start(line(), columns(), batch_size=5, validation=columns(4), validate=Every(updates=2))
    assert run.progress == Progress()
    assert run.streams == ("train", "valid")
    assert weights(run.model) == weights(line())
    assert run.plan.updates_per_epoch == 4
    run.close()


def test_a_fit_over_a_stopped_callback_starts_anew() -> None:
    made = trainer(callbacks=[reacting("on_step_end", lambda run, event: Stop("enough"))])
    assert [made.fit(line(), columns(), epochs=1, batch_size=4).progress.updates for _ in range(2)] == [1, 1]


def test_the_trainer_keeps_what_it_was_told() -> None:
    step = supervised(nn.MSELoss())
    made: Trainer[Any, Any] = Trainer(step, optimizer=sgd(), device="cpu", progress=False, seed=4, accumulate=2, clip_norm=1)
    assert made.step is step
    choices = made.choices
    assert (choices.seed, choices.accumulate, choices.clip_norm, choices.clip_value) == (4, 2, 1.0, None)
    assert (choices.nonfinite, choices.precision, choices.deterministic) == ("raise", "float32", None)
    assert choices.device == torch.device("cpu")
