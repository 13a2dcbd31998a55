"""A training with everything that a user may choose, under names that can be drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from tests.laws.problems import OPTIMIZERS, LossSum, table, with_weights
from torchflow import (
    EMA,
    SWA,
    Callback,
    Checkpoints,
    CSVLog,
    EarlyStopping,
    Every,
    Freeze,
    GradientNorm,
    JSONLines,
    LearningRate,
    Notify,
    Outputs,
    Sample,
    Schedule,
    Throughput,
    Timer,
    Trainer,
    Unfreeze,
    data,
    layer_wise,
    metrics,
    one_cycle,
    supervised,
    warm_up_cosine,
)
from torchflow.data import Dataset

RECIPES: dict[str, Any] = {
    **{name: OPTIMIZERS[name] for name in ("SGD", "momentum", "Adam", "AdamW", "RMSprop", "Adam fused", "L-BFGS")},
    "layer wise": lambda model: torch.optim.AdamW(layer_wise(model, 0.02, 0.5)),
    "two": {
        "first": lambda model: torch.optim.SGD([*model.body.parameters(), *model.middle.parameters()], lr=0.05, momentum=0.5),
        "second": lambda model: torch.optim.Adam(model.head.parameters(), lr=0.02),
    },
}
SCHEDULES: dict[str, Any] = {
    "none": None,
    "by epochs": lambda optimizer: StepLR(optimizer, step_size=1, gamma=0.5),
    "by updates": Schedule(lambda optimizer, plan: CosineAnnealingLR(optimizer, T_max=7), every=Every(updates=2)),
    "warm up": warm_up_cosine(2),
    "one cycle": one_cycle(),
    "plateau": Schedule(lambda optimizer, plan: ReduceLROnPlateau(optimizer, patience=0), metric="valid/loss"),
    "plateau on train": Schedule(lambda optimizer, plan: ReduceLROnPlateau(optimizer, patience=0), metric="train/loss"),
}
CHANGING: dict[str, Callable[[], Callback]] = {
    "ema": lambda: EMA(0.8),
    "ema of samples": lambda: EMA(0.6, every=Every(samples=7), buffers="average", validate=False),
    "ema warming": lambda: EMA(0.9, warm_up=True, start_after=Every(epochs=1), apply=False),
    "swa": lambda: SWA(Every(updates=2), every=Every(updates=3), validate=True),
    "swa of epochs": lambda: SWA(statistics=False),
    "freeze": lambda: Freeze("body"),
    "freeze biases": lambda: Freeze("*.bias"),
    "unfreeze": lambda: Unfreeze(["body.*"], every=Every(updates=3)),
    "unfreeze of epochs": lambda: Unfreeze([["middle", "body"]]),
    "stopping": lambda: EarlyStopping("valid/loss", patience=2, restore_best=True),
    "stopping on train": lambda: EarlyStopping("train/loss", patience=1, restore_best=True),
}
WATCHING: dict[str, Callable[[Path, Drawn], Callback]] = {
    "sum": lambda folder, drawn: LossSum(),
    "average": lambda folder, drawn: EMA(0.9, validate=False, apply=False),
    "rate": lambda folder, drawn: LearningRate(drawn.every),
    "norm": lambda folder, drawn: GradientNorm(drawn.every),
    "speed": lambda folder, drawn: Throughput(drawn.every, peak_flops=1e9),
    "timer": lambda folder, drawn: Timer(),
    "sample": lambda folder, drawn: Sample(drawn.columns(3, 7), lambda made, _: made.add_(1.0), every=drawn.every, batch_size=2),
    "csv": lambda folder, drawn: CSVLog(folder / "log.csv"),
    "lines": lambda folder, drawn: JSONLines(folder / "log.jsonl", every=None if drawn.every.epochs else drawn.every),
    "notify": lambda folder, drawn: Notify(lambda text: None, at=["start", "validation", "epoch", "end"]),
}


class Drawing(nn.Module):
    """Draws from NumPy's global generator in every forward pass of a training."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.uniform(0.9, 1.1)) if self.training else x


class StepOf:
    """The step of a drawn training on batches (inputs, targets, indices); it notes what it was given while training."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        measured: dict[str, dict[str, Any]] = {
            "functions": {"error": metrics.absolute_error},
            "objects": {"square": torchmetrics.MeanSquaredError(), "r2": metrics.R2()},
        }
        self._inner = supervised(nn.MSELoss(), metrics=measured.get(kind, {}))
        self.metrics = self._inner.metrics
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, model: nn.Module, batch: tuple[Tensor, ...], /) -> Outputs:
        x, y, indices = batch
        if model.training:
            self.seen.append((indices.clone(), x.clone()))
        if self.kind == "mixing":  # draws from NumPy's global generator
            x = x * float(np.random.uniform(0.5, 1.5))
        if self.kind != "weighted":
            return self._inner(model, (x, y))
        predictions, weights = model(x), 1 + (indices % 3).to(y.dtype)
        loss = ((predictions - y).square().reshape(-1) * weights).sum() / weights.sum()
        return Outputs(loss, weights.sum(), {"weight": weights}, predictions)


def jittered(sample: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """A random augmentation."""
    x, y, index = sample
    return x + 0.1 * torch.randn(x.shape, generator=generator), y, index


@dataclass(frozen=True)
class Drawn:
    """A drawn training: everything that a user may choose, under the names of the tables above."""

    network: str = "plain"
    step: str = "plain"
    optimizer: str = "SGD"
    schedule: str = "none"
    changing: tuple[str, ...] = ()
    watching: tuple[str, ...] = ()
    rows: int = 12
    batch_size: int = 4
    accumulate: int = 1
    microbatch: int | None = None
    epochs: int = 2
    last_batch: Any = "keep"
    random: bool = False
    damaged: bool = False
    size: float = 1.0
    workers: int = 0
    validations: int = 1
    every: Every = field(default_factory=lambda: Every(epochs=1))
    clip_norm: float | None = None
    clip_value: float | None = None
    nonfinite: Any = "raise"
    precision: str = "float32"
    matmul_precision: str | None = None
    recomputed: str | None = None
    memory_format: Any = None
    deterministic: bool | None = None
    background: bool = True
    compile: Any = False
    seed: int = 0

    def model(self, seed: int = 0) -> nn.Module:
        """A network of three parts; all but the plain one keep running statistics and draw in every forward pass."""
        noise = [nn.ReLU(), nn.Dropout(0.4)]
        parts: dict[str, list[nn.Module]] = {
            "plain": [nn.Linear(18, 5), nn.Tanh(), nn.Linear(5, 1)],
            "noisy": [nn.Linear(18, 5), nn.Sequential(nn.BatchNorm1d(5), *noise), nn.Linear(5, 1)],
            "image": [nn.Conv2d(2, 4, 2), nn.Sequential(Drawing(), nn.BatchNorm2d(4), *noise, nn.Flatten()), nn.Linear(16, 1)],
        }
        return with_weights(nn.Sequential(OrderedDict(zip(("body", "middle", "head"), parts[self.network], strict=True))), seed)

    def columns(self, rows: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, targets and the index of every sample; a damaged table has a NaN in its fourth row."""
        x, y = table(rows, 18, seed)
        x = x * (0.3 * self.size)
        if self.damaged and rows > 9:
            x[3, 0] = torch.nan
        return x.reshape(rows, 2, 3, 3) if self.network == "image" else x, y, torch.arange(rows)

    def train(self) -> Dataset[Any]:
        made: Dataset[Any] = data.from_tensors(*self.columns(self.rows))
        return made.map_random(jittered) if self.random else made

    def data(self) -> dict[str, Any]:
        """What ``fit`` is told of data and duration."""
        several = {"valid": self.columns(7, seed=5), "other": self.columns(3, seed=6)}
        return {
            "train": self.train(),
            "batch_size": self.batch_size,
            "last_batch": self.last_batch,
            "workers": self.workers,
            "validation": [None, several["valid"], several][self.validations],
            "validate": self.every,
            "epochs": self.epochs,
        }

    def trainer(
        self, folder: Path, *, watched: bool = True, more: dict[str, Callback] | None = None, save: Any = None
    ) -> Trainer[Any, Any]:
        """A trainer whose callbacks write to a folder; with ``save`` it keeps checkpoints there at that interval."""
        callbacks = {name: CHANGING[name]() for name in self.changing}
        if watched:
            callbacks |= {name: WATCHING[name](folder, self) for name in self.watching}
        schedule = SCHEDULES[self.schedule]
        best = "valid/loss" if self.validations else None
        return Trainer(
            StepOf(self.step),
            optimizer=RECIPES[self.optimizer],
            scheduler=schedule if self.optimizer != "two" or schedule is None else {"first": schedule, "second": schedule},
            accumulate=self.accumulate,
            microbatch=self.microbatch,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
            callbacks={**callbacks, **(more or {})},
            checkpoints=None if save is None else Checkpoints(folder / "run", every=save, best=best, background=self.background),
            progress=False,
            nonfinite=self.nonfinite,
            precision=self.precision,
            matmul_precision=self.matmul_precision,
            activation_checkpointing=self.recomputed,
            memory_format=self.memory_format,
            compile=self.compile,
            deterministic=self.deterministic,
            seed=self.seed,
            device="cpu",
        )

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return self.rows // self.batch_size if self.last_batch == "drop" else -(-self.rows // self.batch_size)

    @property
    def updates(self) -> int:
        """Updates of the whole run."""
        return self.epochs * -(-self.batches // self.accumulate)

    @property
    def lonely(self) -> bool:
        """Whether batch normalisation would meet a batch or a piece of one sample, which torch refuses."""
        last = self.rows % self.batch_size if self.last_batch == "keep" else 0
        size = self.microbatch or self.batch_size
        return self.network != "plain" and any(
            samples // -(-samples // size) == 1 for samples in (self.batch_size, last) if samples
        )
