"""Everything that a user may get wrong: refused by type and text before anything is written or started."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import torchflow
from tests.small import Recorder, Untouched, columns, line, sgd, trainer, weights
from torchflow import Callback, Checkpoints, EarlyStopping, Every, Outputs, Schedule, Trainer, supervised
from torchflow.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CallbackError,
    CheckpointError,
    DataError,
    DeviceError,
    RaggedBatchError,
    StepError,
)

STEP = supervised(nn.MSELoss())
OTHER = line()


class Async(Callback):
    async def on_step_end(self, run: Any, event: Any) -> None:  # type: ignore[override]
        """Never awaited."""


class TooFew(Callback):
    def on_step_end(self, run: Any) -> None:  # type: ignore[override]
        """Takes no event."""


class Misspelt(Callback):
    def on_epoch_finish(self, run: Any, event: Any) -> None:
        """No hook has this name."""


# What the Trainer is made of: (arguments that differ, exception, words of the message).
TRAINER: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "step none": ({"step": None}, ArgumentTypeError, r"step must be a function, got None .*supervised\(nn\.MSELoss\(\)\)"),
    "step module": ({"step": nn.MSELoss()}, ArgumentTypeError, r"step must be a function .*got MSELoss\(\).*supervised\(loss\)"),
    "step class": ({"step": nn.MSELoss}, ArgumentTypeError, r"step must be a function \(model, batch\)"),
    "step text": ({"step": "mse"}, ArgumentTypeError, r"step must be a function, got 'mse' \(str\)"),
    "optimizer none": (
        {"optimizer": None},
        ArgumentTypeError,
        r"optimizer must be a recipe, got None .*lambda model: torch\.optim\.SGD",
    ),
    "optimizer class": (
        {"optimizer": torch.optim.Adam},
        ArgumentTypeError,
        r"got the class Adam\. Write optimizer=lambda model: torch\.optim\.Adam",
    ),
    "optimizer text": ({"optimizer": "adam"}, ArgumentTypeError, r"optimizer must be a recipe, got 'adam'"),
    "optimizer no names": ({"optimizer": {}}, ArgumentValueError, r"optimizer must be a mapping from names to recipes, got \{\}"),
    "optimizer number as name": ({"optimizer": {1: sgd()}}, ArgumentValueError, r"optimizer must be a mapping from names"),
    "optimizer mapping of text": (
        {"optimizer": {"a": "adam"}},
        ArgumentTypeError,
        r"optimizer\['a'\] must be a recipe, got 'adam'",
    ),
    "scheduler text": ({"scheduler": "cosine"}, ArgumentTypeError, r"scheduler must be a recipe, got 'cosine' .*lambda optimizer"),
    "update number": ({"update": 3}, ArgumentTypeError, r"update must be a function, got 3"),
    "accumulate zero": ({"accumulate": 0}, ArgumentValueError, r"accumulate must be an int of at least 1 .*got 0"),
    "accumulate bool": ({"accumulate": True}, ArgumentTypeError, r"accumulate must be an int of at least 1, got True \(bool\)"),
    "accumulate float": ({"accumulate": 2.0}, ArgumentTypeError, r"accumulate must be an int of at least 1, got 2\.0 \(float\)"),
    "accumulate huge": ({"accumulate": 2**63}, ArgumentValueError, r"accumulate .* below 2\^63"),
    "clip_norm zero": ({"clip_norm": 0}, ArgumentValueError, r"clip_norm must be a finite number above 0, got 0"),
    "clip_norm nan": ({"clip_norm": math.nan}, ArgumentValueError, r"clip_norm must be a finite number above 0, got nan"),
    "clip_norm text": ({"clip_norm": "1"}, ArgumentTypeError, r"clip_norm must be a number above 0, got '1'"),
    "clip_value negative": ({"clip_value": -1.0}, ArgumentValueError, r"clip_value must be a finite number above 0, got -1\.0"),
    "clip_value tensor": ({"clip_value": torch.tensor(1.0)}, ArgumentTypeError, r"clip_value must be a number above 0, got tensor"),
    "callbacks one": ({"callbacks": Recorder()}, ArgumentTypeError, r"callbacks must be a list .*Write callbacks=\[\.\.\.\]"),
    "callbacks text": (
        {"callbacks": "history"},
        ArgumentTypeError,
        r"callbacks must be a list or a mapping of callbacks, got 'history'",
    ),
    "callbacks number": ({"callbacks": 3}, ArgumentTypeError, r"callbacks must be a list or a mapping"),
    "callbacks class": (
        {"callbacks": [Recorder]},
        ArgumentTypeError,
        r"callbacks must be instances, got the class Recorder\. Write Recorder\(",
    ),
    "callbacks function": (
        {"callbacks": [print]},
        ArgumentTypeError,
        r"callbacks must derive from torchflow\.Callback, got <built-in",
    ),
    "callbacks twins": (
        {"callbacks": [Recorder(), Recorder()]},
        ArgumentValueError,
        r"two callbacks are called 'recorder'\. Name them",
    ),
    "callbacks same": (
        {"callbacks": dict.fromkeys("ab", Recorder())},
        ArgumentValueError,
        r"'b' is the same object as another one",
    ),
    "callbacks empty name": ({"callbacks": {"": Recorder()}}, ArgumentValueError, r"a callback's name must be text .*got ''"),
    "callbacks number as name": ({"callbacks": {1: Recorder()}}, ArgumentValueError, r"a callback's name must be text .*got 1"),
    "callbacks dollar": ({"callbacks": {"$a": Recorder()}}, ArgumentValueError, r"does not begin with '\$', got '\$a'"),
    "callbacks reserved": (
        {"callbacks": {"history": Recorder()}},
        ArgumentValueError,
        r"a callback called 'history' is always made by the Trainer",
    ),
    "callbacks async": (
        {"callbacks": [Async()]},
        ArgumentTypeError,
        r"callback 'async': on_step_end is async.*Write def on_step_end\(self, run, event\)",
    ),
    "callbacks signature": (
        {"callbacks": [TooFew()]},
        ArgumentTypeError,
        r"callback 'too_few' has on_step_end\(run: .*, and is called with \(run, event\)",
    ),
    "checkpoints number": (
        {"checkpoints": 3},
        ArgumentTypeError,
        r"checkpoints must be Checkpoints\('runs/name'\) or a folder, got 3",
    ),
    "checkpoints bytes": ({"checkpoints": b"runs"}, ArgumentTypeError, r"checkpoints must be Checkpoints"),
    "checkpoints empty": ({"checkpoints": ""}, ArgumentValueError, r"folder must be a path that is not empty"),
    "checkpoints nul": ({"checkpoints": "a\0b"}, ArgumentValueError, r"has no NUL or line break"),
    "progress text": ({"progress": "bar"}, ArgumentTypeError, r"progress must be True or False, got 'bar'"),
    "nonfinite unknown": ({"nonfinite": "ignore"}, ArgumentValueError, r"nonfinite must be one of 'raise', 'skip', got 'ignore'"),
    "nonfinite none": ({"nonfinite": None}, ArgumentTypeError, r"nonfinite must be one of"),
    "device unknown": ({"device": "gpu"}, ArgumentValueError, r"device 'gpu' is no device that torch knows.*'auto' picks one"),
    "device absent": ({"device": "cuda:99"}, DeviceError, r"device 'cuda:99' is not on this machine\. Here there are 'cpu'"),
    "device number": ({"device": 0}, ArgumentTypeError, r"device must be a name .*got 0"),
    "products unknown": ({"matmul_precision": "tf32"}, ArgumentValueError, r"matmul_precision must be one of .*got 'tf32'"),
    "nothing checkpointed": ({"activation_checkpointing": []}, ArgumentValueError, r"activation_checkpointing must not be empty"),
    "checkpointing by number": (
        {"activation_checkpointing": 3},
        ArgumentTypeError,
        r"activation_checkpointing must be names or patterns",
    ),
    "microbatch zero": ({"microbatch": 0}, ArgumentValueError, r"microbatch must be an int of at least 1 .*got 0 .*Or 'auto'"),
    "microbatch unknown": (
        {"microbatch": "half"},
        ArgumentValueError,
        r"microbatch must be 'auto', got 'half' .*Or a number",
    ),
    "microbatch float": ({"microbatch": 0.5}, ArgumentTypeError, r"microbatch must be an int of at least 1, got 0\.5 .*Or 'auto'"),
    "microbatch bool": ({"microbatch": True}, ArgumentTypeError, r"microbatch must be an int of at least 1, got True"),
    "precision unknown": ({"precision": "fp8"}, ArgumentValueError, r"precision must be one of .*got 'fp8'"),
    "deterministic number": ({"deterministic": 1}, ArgumentTypeError, r"deterministic must be True or False, got 1"),
    "seed negative": ({"seed": -1}, ArgumentValueError, r"seed must be an int of at least 0 .*got -1.*any whole number from 0"),
    "seed float": ({"seed": 1.5}, ArgumentTypeError, r"seed must be an int of at least 0, got 1\.5"),
    "seed text": ({"seed": "0"}, ArgumentTypeError, r"seed must be an int"),
    "seed huge": ({"seed": 2**63}, ArgumentValueError, r"seed must be an int of at least 0 and below 2\^63"),
    "seed none": ({"seed": None}, ArgumentTypeError, r"seed must be an int of at least 0, got None"),
}


@pytest.mark.parametrize("name", TRAINER)
def test_a_trainer_is_made_of_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    changed, error, message = TRAINER[name]
    with Untouched(tmp_path / "runs"), pytest.raises(error, match=message):
        Trainer(**{"step": STEP, "optimizer": sgd(), "progress": False, "device": "cpu", **changed})
    assert list(tmp_path.iterdir()) == []


def test_a_trainer_needs_an_optimizer_and_knows_no_other_argument() -> None:
    with pytest.raises(TypeError, match="optimizer"):
        Trainer(STEP)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="learning_rate"):
        Trainer(STEP, optimizer=sgd(), learning_rate=0.1)  # type: ignore[call-arg]


# What fit, and start, are given. "trainer" holds what the Trainer is made of.


class Lying:
    """A dataset whose length is not one."""

    def __init__(self, length: Any, items: int = 8) -> None:
        self.length, self.items = length, items

    def __len__(self) -> int:
        if isinstance(self.length, Exception):
            raise self.length
        return self.length  # type: ignore[no-any-return]

    def __getitem__(self, index: int) -> Any:
        if index >= self.items:
            raise IndexError(index)
        return torch.zeros(2), torch.zeros(1)


class Ones(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield torch.zeros(2), torch.zeros(1)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(1))


def frozen() -> nn.Module:
    return line().requires_grad_(False)


def of_other(model: nn.Module) -> Any:
    return torch.optim.SGD(OTHER.parameters(), lr=0.1)


def only_frozen(model: nn.Module) -> Any:
    bias = model.get_parameter("bias").requires_grad_(False)
    return torch.optim.SGD([bias], lr=0.1)


NEITHER = {"epochs": None}
LBFGS: Any = lambda model: torch.optim.LBFGS(model.parameters())  # noqa: E731

FIT: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no duration": (NEITHER, ArgumentTypeError, r"fit needs to know when to end\. Pass epochs=10, max_updates=1000 or max_seconds"),
    "epochs zero": ({"epochs": 0}, ArgumentValueError, r"epochs must be an int of at least 1 .*got 0"),
    "epochs negative": ({"epochs": -1}, ArgumentValueError, r"epochs must be an int of at least 1 .*got -1"),
    "epochs bool": ({"epochs": True}, ArgumentTypeError, r"epochs must be an int of at least 1, got True"),
    "epochs text": ({"epochs": "10"}, ArgumentTypeError, r"epochs must be an int of at least 1, got '10'"),
    "epochs float": ({"epochs": 1.5}, ArgumentTypeError, r"epochs must be an int of at least 1, got 1\.5"),
    "epochs tensor": ({"epochs": torch.tensor(3)}, ArgumentTypeError, r"epochs must be an int .*got tensor\(3\)"),
    "epochs huge": ({"epochs": 2**63}, ArgumentValueError, r"epochs .* below 2\^63"),
    "max_updates zero": ({"max_updates": 0}, ArgumentValueError, r"max_updates must be an int of at least 1"),
    "max_updates float": ({"max_updates": 1.0}, ArgumentTypeError, r"max_updates must be an int of at least 1, got 1\.0"),
    "max_seconds zero": ({"max_seconds": 0}, ArgumentValueError, r"max_seconds must be a finite number above 0"),
    "max_seconds nan": ({"max_seconds": math.nan}, ArgumentValueError, r"max_seconds must be a finite number above 0, got nan"),
    "max_seconds text": ({"max_seconds": "60"}, ArgumentTypeError, r"max_seconds must be a number above 0, got '60'"),
    "batch_size zero": ({"batch_size": 0}, ArgumentValueError, r"batch_size must be an int of at least 1"),
    "batch_size bool": ({"batch_size": True}, ArgumentTypeError, r"batch_size must be an int of at least 1, got True"),
    "batch_size float": ({"batch_size": 32.0}, ArgumentTypeError, r"batch_size must be an int of at least 1, got 32\.0"),
    "shuffle number": ({"shuffle": 1}, ArgumentTypeError, r"shuffle must be True or False, got 1"),
    "last_batch unknown": (
        {"last_batch": "skip"},
        ArgumentValueError,
        r"last_batch must be one of 'keep', 'drop', 'pad', got 'skip'",
    ),
    "last_batch leaves none": (
        {"last_batch": "drop", "batch_size": 64},
        ArgumentValueError,
        r"last_batch=\"drop\" leaves none of train: 20 samples, batch_size 64\. Use a batch_size of at most 20",
    ),
    "workers negative": ({"workers": -1}, ArgumentValueError, r"workers must be an int of at least 0"),
    "workers text": ({"workers": "4"}, ArgumentTypeError, r"workers must be an int of at least 0, got '4'"),
    "collate list": ({"collate": []}, ArgumentTypeError, r"collate must be a function, got \[\]"),
    "validate number": (
        {"validate": 5, "validation": columns()},
        ArgumentTypeError,
        r"validate must be an interval such as Every\(epochs=1\), got 5",
    ),
    "resume text": ({"resume": "latest"}, ArgumentTypeError, r"resume must be True or False, got 'latest' .*Or Resume\(override"),
    "resume none": ({"resume": None}, ArgumentTypeError, r"resume must be True or False, got None"),
    "train none": ({"train": None}, ArgumentTypeError, r"train must be a Dataset, a tuple or dict of tensors.*got None"),
    "train number": ({"train": 5}, ArgumentTypeError, r"train must be .*got 5"),
    "train text": ({"train": "data.csv"}, ArgumentTypeError, r"train must be .*got 'data\.csv'.*from_csv"),
    "train class": ({"train": TensorDataset}, ArgumentTypeError, r"train must be an object, got the class TensorDataset\. Call it"),
    "train empty list": ({"train": []}, DataError, r"train has no samples\. Pass at least one"),
    "train empty tensors": ({"train": columns(0)}, DataError, r"train has no samples"),
    "train uneven": ({"train": (torch.zeros(4, 2), torch.zeros(5, 1))}, DataError, r"4.*5|5.*4"),
    "train scalar": ({"train": (torch.tensor(1.0), torch.tensor(2.0))}, DataError, r"dimension|scalar|shape"),
    "train empty dict": ({"train": {}}, ArgumentTypeError, r"train is a dict, whose values must be tensors or arrays: it is empty"),
    "train dict of text": (
        {"train": {"x": "y"}},
        ArgumentTypeError,
        r"train is a dict, whose values must be tensors .*\['x'\] is 'y'",
    ),
    "train iterable dataset": (
        {"train": Ones()},
        ArgumentTypeError,
        r"train is a torch IterableDataset.*DataLoader\(data, batch_size=32\)",
    ),
    "train length negative": ({"train": Lying(-1)}, DataError, r"len\(train\) (must be|failed).*__len__"),
    "train length text": ({"train": Lying("8")}, DataError, r"len\(train\) (must be|failed).*__len__"),
    "train length float": ({"train": Lying(8.0)}, DataError, r"len\(train\) (must be|failed).*__len__"),
    "train length raises": ({"train": Lying(OSError("gone"))}, DataError, r"len\(train\) failed: it raised OSError: gone"),
    "loader with batch_size": (
        {"train": DataLoader(TensorDataset(*columns())), "batch_size": 4},
        ArgumentTypeError,
        r"batch_size cannot be given beside train: a DataLoader yields batches",
    ),
    "loader with shuffle": (
        {"train": DataLoader(TensorDataset(*columns())), "shuffle": True},
        ArgumentTypeError,
        r"shuffle cannot be given",
    ),
    "validation number": ({"validation": 3}, ArgumentTypeError, r"validation must be .*got 3"),
    "validation empty": ({"validation": []}, DataError, r"validation has no samples"),
    "validation slash": (
        {"validation": {"a/b": columns()}},
        ArgumentValueError,
        r"a validation's name must be text without '/' .*got 'a/b'",
    ),
    "validation train": ({"validation": {"train": columns()}}, ArgumentValueError, r"other than 'train', got 'train'"),
    "validation number as name": ({"validation": {1: columns()}}, ArgumentValueError, r"a validation's name must be text"),
    "validation of none": ({"validation": {"a": None}}, ArgumentTypeError, r"validation\['a'\] must be .*got None"),
    "model none": ({"model": None}, ArgumentTypeError, r"model must be an nn\.Module, or a function that returns one, got None"),
    "model text": ({"model": "resnet"}, ArgumentTypeError, r"model must be an nn\.Module.*got 'resnet'"),
    "model recipe of none": (
        {"model": lambda: None},
        ArgumentTypeError,
        r"model is a recipe that must return an nn\.Module, .*returned None",
    ),
    "model without parameters": (
        {"model": nn.ReLU()},
        ArgumentValueError,
        r"model \(ReLU\) has no parameters, so there is nothing to train",
    ),
    "model frozen": ({"model": frozen}, ArgumentValueError, r"all 2 parameters of the model \(Linear\) are frozen\. Unfreeze one"),
    "model meta": ({"model": nn.Linear(2, 1, device="meta")}, ArgumentValueError, r"'weight' on the meta device.*to_empty"),
    "model lazy": ({"model": lazy}, ArgumentValueError, r"lazy parameter '0\.weight' without a shape\. Run one batch"),
    "optimizer of another model": (
        {"trainer": {"optimizer": of_other}},
        ArgumentValueError,
        r"optimizer 'main' holds 2 of 2 parameters that are not the model's\. Build it from the model",
    ),
    "optimizer instance of another model": (
        {"trainer": {"optimizer": torch.optim.SGD(OTHER.parameters(), lr=0.1)}},
        ArgumentValueError,
        r"holds 2 of 2 parameters that are not the model's",
    ),
    "optimizer recipe of none": (
        {"trainer": {"optimizer": lambda model: None}},
        ArgumentTypeError,
        r"optimizer 'main' must be a recipe .*returned None",
    ),
    "optimizer of frozen": (
        {"trainer": {"optimizer": only_frozen}},
        ArgumentValueError,
        r"optimizer 'main' holds no parameter that requires a gradient",
    ),
    "optimizer nan rate": (
        {"trainer": {"optimizer": sgd(math.nan)}},
        ArgumentValueError,
        r"optimizer 'main': lr must be a finite number of at least 0, got nan",
    ),
    "optimizer inf rate": (
        {"trainer": {"optimizer": sgd(math.inf)}},
        ArgumentValueError,
        r"optimizer 'main': lr must be a finite number of at least 0, got inf",
    ),
    "optimizers share": (
        {"trainer": {"optimizer": {"a": sgd(), "b": sgd()}}},
        ArgumentValueError,
        r"optimizers 'a' and 'b' both hold a parameter of shape \(1, 2\).*update=",
    ),
    "L-BFGS beside another": (
        {"trainer": {"optimizer": {"a": LBFGS, "b": sgd()}}},
        ArgumentValueError,
        r"L-BFGS evaluates the loss itself and cannot share an update",
    ),
    "L-BFGS in another layout": (
        {
            "trainer": {"optimizer": LBFGS, "memory_format": "channels_last"},
            "model": nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten()),
        },
        ArgumentValueError,
        r"L-BFGS takes every gradient as one row, and a parameter of shape \(3, 2, 2, 2\) does not lie .* Leave memory_format out",
    ),
    "scheduler recipe of none": (
        {"trainer": {"scheduler": lambda opt: None}},
        ArgumentTypeError,
        r"scheduler must be a recipe .*LRScheduler.*None",
    ),
    "scheduler of another": (
        {"trainer": {"scheduler": lambda opt: StepLR(sgd()(line()), 1)}},
        ArgumentValueError,
        r"scheduler returned a scheduler of another optimizer",
    ),
    "scheduler plateau": (
        {"trainer": {"scheduler": ReduceLROnPlateau}},
        ArgumentTypeError,
        r"is a ReduceLROnPlateau, which wants a metric",
    ),
    "scheduler stream": (
        {"trainer": {"scheduler": Schedule(lambda opt, plan: ReduceLROnPlateau(opt), metric="valid/loss")}},
        ArgumentValueError,
        r"Schedule\(metric='valid/loss'\) needs a stream named 'valid'; this run has 'train'\. Pass validation",
    ),
    "scheduler name": (
        {"trainer": {"scheduler": {"other": lambda opt: StepLR(opt, 1)}}},
        ArgumentValueError,
        r"scheduler names the optimizer 'other'; there are 'main'",
    ),
    "scheduler for several": (
        {
            "trainer": {
                "scheduler": lambda opt: StepLR(opt, 1),
                "optimizer": {
                    "a": lambda m: torch.optim.SGD([m.weight], lr=0.1),
                    "b": lambda m: torch.optim.SGD([m.bias], lr=0.1),
                },
            }
        },
        ArgumentTypeError,
        r"with several optimizers, scheduler must be a mapping from their names",
    ),
    "early stopping stream": (
        {"trainer": {"callbacks": [EarlyStopping("valid/loss")]}},
        ArgumentValueError,
        r"EarlyStopping\('valid/loss'\) needs a stream named 'valid'",
    ),
}


@pytest.mark.parametrize("name", FIT)
def test_fit_refuses_before_anything_is_written_or_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    changed, error, message = FIT[name]
    given: dict[str, Any] = {"model": line, "train": columns(), "epochs": 1, **changed}
    made = trainer(**{"checkpoints": tmp_path / "run", **given.pop("trainer", {})})
    random_state = torch.random.get_rng_state()
    with Untouched(tmp_path / "run"), pytest.raises(error, match=message):
        made.fit(given.pop("model"), given.pop("train"), **given)
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(torch.random.get_rng_state(), random_state) or "model" in changed or "trainer" in changed


@pytest.mark.parametrize(
    "name", [name for name, (given, _, _) in FIT.items() if not {"epochs", "max_updates", "max_seconds", "resume"} & given.keys()]
)
def test_start_refuses_what_fit_refuses(name: str) -> None:
    changed, error, message = FIT[name]
    given: dict[str, Any] = {"model": line, "train": columns(), **changed}
    made = trainer(**given.pop("trainer", {}))
    with pytest.raises(error, match=message):
        made.start(given.pop("model"), given.pop("train"), **given)


def test_numpy_counts_are_counts() -> None:
    made = trainer(accumulate=np.int64(2), seed=np.int32(3))
    result = made.fit(line(), columns(), epochs=np.int64(2), batch_size=np.int16(4))  # type: ignore[arg-type]
    assert result.progress.updates == 6
    assert type(made.choices.seed) is int


# Folders


@pytest.mark.parametrize("place", ["file", "below a file", "long"])
def test_a_folder_that_cannot_be_is_refused_before_the_first_update(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("something else")
    folder = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "run", "long": tmp_path / ("x" * 300)}[place]
    recorder, model = Recorder(), line()
    with pytest.raises(CheckpointError, match=r"file|x{20}"):
        trainer(checkpoints=folder, callbacks=[recorder]).fit(model, columns(), epochs=1)
    assert recorder.seen == []
    assert weights(model) == weights(line())
    assert (tmp_path / "file").read_text() == "something else"


# What data gives only when it is read: the place is named, and the first weights are as they were.


class Items:
    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


DATA: dict[str, tuple[Any, type[Exception], str]] = {
    "length too long": (Lying(12), DataError, r"train|sample"),
    "text": (Items(lambda n: "text"), DataError, r"sample \d is str: 'text'.*encode the text"),
    "none": (Items(lambda n: None), DataError, r"None"),
    "ragged": (Items(lambda n: (torch.zeros(2 + n % 2), torch.zeros(1))), RaggedBatchError, r"\(2,\).*\(3,\)|\(3,\).*\(2,\)"),
    "other keys": (Items(lambda n: {"x": torch.zeros(2)} if n % 2 else {"y": torch.zeros(2)}), DataError, r"x|y"),
    "raises": (Items(lambda n: 1 // 0), DataError, r"ZeroDivisionError"),
    "stops": (Items(lambda n: next(iter([]))), DataError, r"StopIteration"),
    "no pair": (Items(lambda n: torch.zeros(2)), StepError, r"supervised\(\) expects batches \(inputs, targets\), got a Tensor"),
    "three": (Items(lambda n: (torch.zeros(2),) * 3), StepError, r"got a tuple of 3"),
    "shapes": (Items(lambda n: (torch.zeros(2), torch.zeros(()))), StepError, r"compares element by element"),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("place", ["train", "validation", "evaluate"])
def test_data_that_is_not_what_it_was_taken_for_is_named(name: str, place: str) -> None:
    given, error, message = DATA[name]
    made, model = trainer(), line()
    acts: dict[str, Callable[[], object]] = {
        "train": lambda: made.fit(model, given, epochs=1, batch_size=12),
        "validation": lambda: made.fit(line(), columns(), epochs=1, validation=given),
        "evaluate": lambda: made.evaluate(model, given),
    }
    with pytest.raises(error, match=message):
        acts[place]()
    assert weights(model) == weights(line())


def test_a_generator_serves_for_one_epoch() -> None:
    def batches() -> Any:
        yield columns(4)

    with pytest.raises(DataError, match=r"train is a generator, which gives one epoch and is exhausted\. Pass a list"):
        trainer().fit(line(), batches(), epochs=2)


# What a step gives


STEPS: dict[str, tuple[Any, str]] = {
    "none": (lambda model, batch: None, r"step must return the loss as a Tensor, or Outputs, got None"),
    "number": (lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]).item(), r"not loss\.item\(\)"),
    "tuple": (lambda model, batch: (torch.zeros(()), 1), r"step must return the loss as a Tensor, or Outputs, got \("),
    "vector": (lambda model, batch: model(batch[0]), r"shape \(\), got shape \(20, 1\).*\.mean\(\)"),
    "detached": (lambda model, batch: model(batch[0]).mean().detach(), r"the loss has no gradient.*\.detach\(\)"),
    "no grad": (torch.no_grad()(lambda model, batch: model(batch[0]).mean()), r"the loss has no gradient.*torch\.no_grad\(\)"),
    "complex": (lambda model, batch: model(batch[0]).mean() * 1j, r"must be one real number.*complex64"),
    "count text": (lambda model, batch: Outputs(model(batch[0]).mean(), count="3"), r"Outputs\.count must be an int"),  # type: ignore[arg-type]
    "metric float": (
        lambda model, batch: Outputs(model(batch[0]).mean(), metrics={"m": 0.5}),  # type: ignore[dict-item]
        r"Outputs\.metrics\['m'\] must be a tensor",
    ),
    "metric tuple": (lambda model, batch: Outputs(model(batch[0]).mean(), metrics={"m": (1, 2)}), r"metric object of that name"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_gives_what_cannot_be_trained_on_is_refused(name: str) -> None:
    step, message = STEPS[name]
    model = line()
    with pytest.raises(StepError, match=message):
        trainer(step=step).fit(model, columns(), epochs=1)
    assert weights(model) == weights(line())


def test_a_step_with_the_wrong_signature_is_a_plain_type_error() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        trainer(step=lambda model: model).fit(line(), columns(), epochs=1)


# The small words


WORDS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "Every nothing": (Every, ArgumentValueError, r"exactly one of epochs, updates, samples or seconds, got nothing"),
    "Every zero": (lambda: Every(updates=0), ArgumentValueError, r"Every\(updates=…\) must be an int of at least 1"),
    "Every positional": (lambda: Every(3), ArgumentTypeError, r"Write Every\(updates=3\) or Every\(epochs=3\)"),  # type: ignore[call-arg]
    "Stop nothing": (lambda: torchflow.Stop(None), ArgumentTypeError, r"Stop takes the reason as a str, got None"),  # type: ignore[arg-type]
    "Resume text": (
        lambda: torchflow.Resume(override="lr"),
        ArgumentTypeError,
        r"must be a list of names such as \['lr'\], got 'lr'",
    ),
    "Schedule number": (lambda: Schedule(3), ArgumentTypeError, r"Schedule's recipe must be a function"),  # type: ignore[arg-type]
    "Schedule seconds": (lambda: Schedule(len, Every(seconds=3)), ArgumentValueError, r"steps by updates or epochs"),  # type: ignore[arg-type]
    "Checkpoints keep": (lambda: Checkpoints("x", keep=0), ArgumentValueError, r"keep must be an int of at least 2"),
    "supervised class": (lambda: supervised(nn.MSELoss), ArgumentTypeError, r"got the class MSELoss\. Write MSELoss\(\)"),  # type: ignore[arg-type]
    "supervised metric": (lambda: supervised(len, metrics={"a/b": len}), ArgumentValueError, r"text without '/'"),  # type: ignore[arg-type, dict-item]
    "supervised list": (
        lambda: supervised(nn.MSELoss(), metrics=[len]),  # type: ignore[arg-type]
        ArgumentTypeError,
        r"metrics must be a mapping from names",
    ),
    "top_k": (lambda: torchflow.metrics.top_k(0), ArgumentValueError, r"k must be an int of at least 1"),
    "update": (lambda: torchflow.update(trainer().start(line(), columns()), ()), ArgumentTypeError, r"takes a list"),  # type: ignore[arg-type]
    "events": (lambda: torchflow.events(trainer().start(line(), columns()), epochs=0), ArgumentValueError, r"epochs must be"),
    "save nothing": (lambda: torchflow.save(None, "x"), ArgumentTypeError, r"run must be a Run, from Trainer\.start, got None"),  # type: ignore[arg-type]
    "load nothing": (lambda: torchflow.load(None, "x"), ArgumentTypeError, r"run must be a Run"),  # type: ignore[arg-type]
    "save path": (lambda: torchflow.save(trainer().start(line(), columns()), b"x"), ArgumentTypeError, r"folder must be a path"),  # type: ignore[arg-type]
    "EarlyStopping": (lambda: EarlyStopping("loss"), ArgumentValueError, r"metric must be a stream, a slash and a name"),
    "evaluate model": (lambda: trainer().evaluate(None, columns()), ArgumentTypeError, r"model must be an nn\.Module, got None"),
    "evaluate data": (lambda: trainer().evaluate(line(), None), ArgumentTypeError, r"data must be .*got None"),  # type: ignore[arg-type]
    "evaluate size": (lambda: trainer().evaluate(line(), columns(), batch_size=0), ArgumentValueError, r"batch_size must be"),
    "predict forward": (lambda: trainer().predict(line(), columns(), forward=1), ArgumentTypeError, r"forward must be a function"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WORDS)
def test_the_small_words_are_checked_when_they_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    act, error, message = WORDS[name]
    with Untouched(tmp_path / "x"), pytest.raises(error, match=message):
        act()


def test_there_are_at_least_seventy_cases() -> None:
    assert len(TRAINER) + len(FIT) + len(DATA) + len(STEPS) + len(WORDS) >= 70


def test_a_callback_that_fails_names_itself() -> None:
    class Wrong(Callback):
        def on_step_end(self, run: Any, event: Any) -> None:
            event.nonsense()

    with pytest.raises(CallbackError, match=r"callback 'wrong' raised AttributeError in on_step_end at epoch 0, batch 1, update 1"):
        trainer(callbacks=[Wrong()]).fit(line(), columns(), epochs=1)


def test_a_hook_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ArgumentTypeError, match=r"callback 'misspelt' has on_epoch_finish, which is no hook.*on_epoch_end"):
        trainer(callbacks=[Misspelt()])


def test_parameters_that_two_groups_share_are_torchs_own_error() -> None:
    def twice(model: nn.Module) -> Any:
        parameters = list(model.parameters())
        return torch.optim.SGD([{"params": parameters}, {"params": copy.copy(parameters)}], lr=0.1)

    with pytest.raises(ValueError, match="more than one parameter group"):
        trainer(optimizer=twice).fit(line(), columns(), epochs=1)


def test_a_loss_on_a_tensor_of_another_dtype_is_torchs_own_error_and_changes_nothing() -> None:
    x, y = columns()
    model = line()
    with pytest.raises(RuntimeError, match="dtype"):
        trainer().fit(model, (x.double(), y.double()), epochs=1)
    assert weights(model) == weights(line())
