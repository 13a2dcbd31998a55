"""The four workloads: data, first weights, loss and optimizer, the same for every contestant.

=====  ===========================================================================================
W1     a line, ``nn.Linear(1, 1)``, 32,000 rows, batch 32, SGD: nothing but overhead
W2     an MLP 32-128-128-1, 200,000 rows, batch 256, Adam: a table
W3     a CNN on 3 x 32 x 32 images, batch 64, SGD with momentum: mostly mathematics
W4     W2 with a metric, a validation of 20,000 rows, a progress bar and a checkpoint of the best epoch
=====  ===========================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchflow.data.order import order_of
from torchflow.randomness import Keys

ROWS_OF_A_CHECK = 4_096
SEED = 0
RATES = {"W1": 0.002, "W2": 1e-3, "W3": 0.003, "W4": 1e-3}
"""The learning rates, for whoever has optimizers of their own."""


@dataclass(frozen=True)
class Workload:
    """What is trained.

    Attributes:
        name: Such as "W1".
        what: One line for a table.
        train: Inputs (rows, ...) and targets (rows, ...).
        valid: The same for the validation at an epoch's end, or None.
        batch: Samples of a batch.
        model: Makes the model, with the same first weights each time.
        loss: Makes the loss function.
        optimizer: Makes the optimizer that a careful author takes.
        best_optimizer: Makes the cheapest one known, with the same mathematics.
        observed: Whether a metric, validation, a bar and checkpoints are part of it.
        cut: Batches of an epoch, where a contestant trains on the first ones only.
    """

    name: str
    what: str
    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor] | None
    batch: int
    model: Callable[[], nn.Module]
    loss: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    best_optimizer: Callable[[nn.Module], Optimizer]
    observed: bool = False
    cut: int | None = None

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        rows = len(self.train[0])
        return rows if self.cut is None else min(rows, self.cut * self.batch)

    @property
    def updates(self) -> int:
        """Updates of an epoch."""
        return math.ceil(self.rows / self.batch)

    def order(self, epoch: int) -> Tensor:
        """Return the rows of an epoch in the order of a Trainer with seed 0; it costs what ``torch.randperm`` costs."""
        return order_of(len(self.train[0]), Keys(SEED)("order", epoch))[: self.rows]

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches of an epoch as a careful author fetches them."""
        x, y = self.train
        for indices in self.order(epoch).split(self.batch):
            yield x.index_select(0, indices), y.index_select(0, indices)

    def error(self, predict: Callable[[Tensor], Tensor]) -> float:
        """Return the loss of some training rows: what says that two contestants trained the same."""
        x, y = (column[:ROWS_OF_A_CHECK] for column in self.train)
        with torch.no_grad():
            return float(self.loss()(predict(x), y))

    def of_rows(self, rows: int) -> Workload:
        """Return the workload on the first rows alone, also of the validation."""
        valid = None if self.valid is None else (self.valid[0][:rows], self.valid[1][:rows])
        return replace(self, train=(self.train[0][:rows], self.train[1][:rows]), valid=valid)

    def shortened(self, updates: int) -> Workload:
        """Return the workload whose epochs are the first ``updates`` batches of these."""
        cut = min(updates, self.updates)
        if self.valid is None:
            return replace(self, cut=cut)
        rows = math.ceil(len(self.valid[0]) * cut / self.updates)  # a validation keeps its share of an epoch
        return replace(self, cut=cut, valid=(self.valid[0][:rows], self.valid[1][:rows]))


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a module with its usual first weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return make()


def _line() -> nn.Module:
    return _seeded(lambda: nn.Linear(1, 1))


def _perceptron() -> nn.Module:
    return _seeded(lambda: nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)))


def _convolutions() -> nn.Module:
    def make() -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 8 * 8, 10)),
        )

    return _seeded(make)


def _sgd(**choices: bool) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.SGD(model.parameters(), lr=RATES["W1"], **choices)


def _adam(model: nn.Module) -> Optimizer:
    return torch.optim.Adam(model.parameters(), lr=RATES["W2"], fused=True)


def _momentum(**choices: bool) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.SGD(model.parameters(), lr=RATES["W3"], momentum=0.9, **choices)


def regression(model: Callable[[], nn.Module], updates: int, batch: int, *, rows: int | None = None) -> Workload:
    """Return a workload of any size: targets that are the mean of the inputs, trained with Adam.

    Args:
        model: Makes the model; its first layer says how many inputs there are, and there is one output.
        updates: Updates of an epoch.
        batch: Samples of a batch.
        rows: Rows of an epoch, in place of its updates.
    """
    features = next(p for p in model().parameters()).shape[1]
    x = torch.empty(updates * batch if rows is None else rows, features).uniform_(generator=torch.Generator().manual_seed(SEED))
    y = x.mean(1, keepdim=True)
    return Workload("of any size", "", (x, y), None, batch, lambda: _seeded(model), nn.MSELoss, _adam, _adam)


@cache
def workload(name: str) -> Workload:
    """Return a workload by its name.

    Raises:
        ValueError: There is none of that name.
    """
    if name == "W1":
        return _w1()
    if name == "W3":
        return _w3()
    if name in ("W2", "W4"):
        return _w2_or_w4(name)
    raise ValueError(f"there are the workloads W1, W2, W3 and W4, not {name!r}")


def _w1() -> Workload:
    draw = torch.Generator().manual_seed(SEED)
    x = torch.rand(32_000, 1, generator=draw)
    y = 0.7 * x + 0.3 + 0.02 * torch.randn(x.shape, generator=draw)
    what = "a line, batch 32, SGD"
    return Workload("W1", what, (x, y), None, 32, _line, nn.MSELoss, _sgd(), _sgd(foreach=False))


def _w2_or_w4(name: str) -> Workload:
    draw = torch.Generator().manual_seed(SEED)
    x = torch.randn(220_000, 32, generator=draw)
    y = torch.sin(x @ torch.randn(32, 1, generator=draw) / 4) + 0.1 * torch.randn(len(x), 1, generator=draw)
    train, rest = (x[:200_000].clone(), y[:200_000].clone()), (x[200_000:].clone(), y[200_000:].clone())
    observed = name == "W4"
    what = "W2 with a metric, validation, progress bar and best checkpoint" if observed else "an MLP 32-128-128-1, batch 256, Adam"
    valid = rest if observed else None
    return Workload(name, what, train, valid, 256, _perceptron, nn.MSELoss, _adam, _adam, observed=observed)


def _w3() -> Workload:
    draw = torch.Generator().manual_seed(SEED)
    x = torch.randn(640, 3, 32, 32, generator=draw)
    y = torch.randint(10, (640,), generator=draw)
    what = "a CNN on 3 x 32 x 32, batch 64, SGD with momentum"
    return Workload("W3", what, (x, y), None, 64, _convolutions, nn.CrossEntropyLoss, _momentum(), _momentum(fused=True))
