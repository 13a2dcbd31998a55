"""Jobs for the verifications of torchflow.testing: sound ones, and one for each fault that they must find."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from torchflow import Callback, Checkpoints, EarlyStopping, Every, Schedule, Trainer, data, metrics, supervised
from torchflow.data import Dataset
from torchflow.randomness import generator
from torchflow.testing import Job

Pair = tuple[Tensor, Tensor]


def points(samples: int = 24, seed: int = 0) -> Pair:
    """Inputs (samples, 2) and targets (samples, 1)."""
    source = generator(seed)
    x = torch.randn(samples, 2, generator=source)
    return x, x.sum(1, keepdim=True) + 0.1 * torch.randn(samples, 1, generator=source)


def line() -> nn.Module:
    return nn.Linear(2, 1)


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def plain(train: Any = None, *, step: Any = None, model: Any = line, **choices: Any) -> Job:
    """A linear model, three epochs of four updates."""
    trainer: Trainer[Any, Any] = Trainer(
        step or supervised(nn.MSELoss()), **{"optimizer": momentum, "progress": False, "device": "cpu", **choices}
    )
    return Job(
        trainer, model, points() if train is None else train, {"epochs": 3, "batch_size": 6, "validation": points(8, seed=5)}
    )


def sound() -> Job:
    return plain()


def of_the_example() -> Job:
    """What examples/linear_regression.py trains, for fewer epochs."""
    from examples.linear_regression import Line, trainer  # noqa: PLC0415, it imports matplotlib

    train, valid, _ = data.linear(0.7, 0.3, samples=200).split(0.7, 0.15, 0.15, seed=0)
    scale, unit = (data.Standardize(field).fit(train) for field in (0, 1))
    train, valid = (part.map_batch(scale).map_batch(unit) for part in (train, valid))
    return Job(trainer, lambda: Line(1), train, {"epochs": 4, "batch_size": 32, "validation": valid})


def cropped(sample: Pair, source: torch.Generator) -> Pair:
    """A random crop of 8 by 8 pixels to 6 by 6, and a random flip."""
    image, label = sample
    top, left, flip = (int(torch.randint(high, (), generator=source)) for high in (3, 3, 2))
    image = image[:, top : top + 6, left : left + 6]
    return (image.flip(2) if flip else image), label


class Pictures(torch.utils.data.Dataset[Pair]):
    """Pictures of a user's own, made by Python: read by worker processes."""

    def __len__(self) -> int:
        return 42

    def __getitem__(self, index: int) -> Pair:
        source = generator(index)
        noise = random.random()  # keyed by torchflow for each sample
        return torch.randn(1, 8, 8, generator=source) + index % 3 + 0.01 * noise, torch.tensor(index % 3)


def network() -> nn.Module:
    """A small convolutional network with dropout and running statistics."""
    first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(first, nn.Dropout(0.3), nn.Linear(64, 3))


def pictures(workers: int = 0) -> Job:
    """Everything at once: dropout, momentum, a scheduler, accumulation, augmentation, early stopping with the best weights."""
    trainer: Trainer[nn.Module, Pair] = Trainer(
        supervised(nn.CrossEntropyLoss(), metrics={"accuracy": metrics.accuracy}),
        optimizer=momentum,
        scheduler=Schedule(lambda optimizer, plan: StepLR(optimizer, 3, 0.9), every=Every(updates=1)),
        accumulate=2,
        clip_norm=1.0,
        callbacks=[EarlyStopping("valid/loss", patience=1, restore_best=True), LossSum()],
        checkpoints=Checkpoints("never-touched", every=Every(updates=4), best="valid/loss"),
        progress=False,
        device="cpu",
    )
    train = data.as_dataset(Pictures())
    valid: Dataset[Any] = train.take(9).map(lambda pair: (pair[0][:, :6, :6], pair[1]))
    return Job(
        trainer,
        network,
        train.map_random(cropped),
        {"epochs": 3, "batch_size": 5, "validation": valid, "validate": Every(updates=3), "workers": workers},
    )


def pictures_read_by_workers() -> Job:
    return pictures(2)


class LossSum(Callback):
    """An observer with state, all of which it saves."""

    def __init__(self) -> None:
        self.total = 0.0

    def on_step_end(self, run: Any, event: Any) -> None:
        self.total += event.loss.item()

    def state(self) -> Mapping[str, Any]:
        return {"total": self.total}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.total = state["total"]


class Unkeyed(torch.utils.data.Dataset[Pair]):
    """Fault: a generator of its own, which begins anew in every process."""

    def __init__(self) -> None:
        self.x, self.y = points()
        self.random = random.Random(0)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Pair:
        return self.x[index] + 0.1 * self.random.gauss(0, 1), self.y[index]


def with_unkeyed_data() -> Job:
    return plain(Unkeyed())


class Forgetful(Callback):
    """Fault: counts what it sees, and saves nothing."""

    def __init__(self) -> None:
        self.seen = 0
        self.began = time.time()  # differs from process to process, which is no fault of a resume

    def on_step_end(self, run: Any, event: Any) -> None:
        self.seen += 1


def with_a_forgetful_callback() -> Job:
    return plain(callbacks=[Forgetful()])


class Halving(Forgetful):
    """Fault: what it forgets decides about the learning rate."""

    changes_run = True

    def on_step_end(self, run: Any, event: Any) -> None:
        super().on_step_end(run, event)
        if self.seen == 6:
            run.optimizer.param_groups[0]["lr"] /= 2


def with_a_forgetful_schedule() -> Job:
    return plain(callbacks=[Halving()])


def warming() -> Callable[[nn.Module, Pair], Tensor]:
    """Fault: a step with a counter in its closure."""
    calls = 0

    def step(model: nn.Module, batch: Pair) -> Tensor:
        nonlocal calls
        calls += model.training
        x, y = batch
        loss: Tensor = (model(x) - y).square().mean() * min(1.0, calls / 8)
        return loss

    return step


def with_hidden_state_in_the_step() -> Job:
    return plain(step=warming())


class Growing(nn.Module):
    """Fault: how much a layer counts depends on numbers that are in no state_dict."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = nn.Linear(2, 1), 0
        self.scale: Tensor
        self.register_buffer("scale", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            self.scale = self.scale + 0.1
        out: Tensor = self.linear(x) * self.scale
        return out


def with_unsaved_numbers_in_the_model() -> Job:
    return plain(model=Growing)


class Counting(nn.Linear):
    """No fault: a module that counts, and nothing depends on it."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def with_a_count_for_curiosity() -> Job:
    return plain(model=lambda: Counting(2, 1))


def normed() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))


class Recalibrating(Callback):
    """Fault: says that it observes, and updates running statistics with data that it evaluates."""

    def on_validation_end(self, run: Any, event: Any) -> None:
        with torch.no_grad():
            run.model.train()(points(8, seed=6)[0])


def with_a_disturbing_observer() -> Job:
    return plain(model=normed, callbacks={"sum": LossSum(), "recalibrating": Recalibrating()})


def without_a_seed() -> Job:
    """Fault: first weights that differ from process to process."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.add_(time.time_ns() % 1_000_003 * 1e-6)
    return plain(model=model)


def unrepeatable() -> Job:
    """Fault: a step that depends on the clock."""

    def step(model: nn.Module, batch: Pair) -> Tensor:
        x, y = batch
        loss: Tensor = (model(x) - y).square().mean() * (1 + time.time_ns() % 1_000_003 * 1e-6)
        return loss

    return plain(step=step)


def stopping() -> Job:
    """Early stopping ends the second epoch of three."""
    return plain(callbacks=[EarlyStopping("valid/loss", patience=1, min_delta=100.0)])


def failing() -> Job:
    def step(model: nn.Module, batch: Pair) -> Tensor:
        raise RuntimeError("the step is broken")

    return plain(step=step)


def hanging() -> Job:
    def step(model: nn.Module, batch: Pair) -> Tensor:
        time.sleep(600)
        raise AssertionError

    return plain(step=step)


def no_job() -> None:
    return None
