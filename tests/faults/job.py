"""The reference job of the campaign: small, and with every part that a resume could get wrong.

Dropout, AdamW, a schedule by updates, accumulation, validation in mid-epoch, early stopping with best weights, a callback with
state, an uneven last batch, random augmentation from torchflow's generators or, in the foreign variant, from all three globals.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the first optimizer imports it, for a second: once here instead of in every child
from torch import Tensor, nn

from tests.faults.dataset import FEATURES, SAMPLES, Foreign
from tests.laws.problems import LossSum, table, with_weights
from torchflow import Callback, Checkpoints, EarlyStopping, Every, Run, Schedule, Started, Stepped, Trainer, data

EPOCHS, SAVE_EVERY = 3, 7
UPDATES_OF_AN_EPOCH = 12  # 93 samples in batches of 4, two batches an update: the last batch has one sample
UPDATES = EPOCHS * UPDATES_OF_AN_EPOCH
SHORT_UPDATES, SHORT_SAVE_EVERY = 5, 2

Batch = tuple[Tensor, Tensor, Tensor]
_seen: list[Batch] = []


def seeing_step(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error; a training batch is remembered until its update is written down."""
    if model.training:
        _seen.append(batch)
    x, y, _ = batch
    return nn.functional.mse_loss(model(x), y)


class Log(Callback):
    """Writes what every update consumed, with one system call a line: epoch, update, sample indices, digest of the values."""

    run: Run[Any, Any]

    def __init__(self, path: Path) -> None:
        self._path = path

    def _write(self, line: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        _seen.clear()
        self.run = run
        self._write(f"start {event.progress.updates}")

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        digest = hashlib.sha256(b"".join(x.numpy().tobytes() + y.numpy().tobytes() for x, y, _ in _seen)).hexdigest()[:16]
        indices = ",".join(str(index) for *_, column in _seen for index in column.flatten().tolist())
        _seen.clear()
        self._write(f"update {event.progress.updates} {event.progress.epoch} {indices} {digest}")


def augmented(sample: Batch, source: torch.Generator) -> Batch:
    """Noise from the sample's own generator."""
    x, y, index = sample
    return x + 0.1 * torch.rand(FEATURES, generator=source), y, index


def columns(samples: int, seed: int) -> Batch:
    """Inputs, targets and the number of each sample."""
    return (*table(samples, FEATURES, seed), torch.arange(samples).reshape(-1, 1))


def network(width: int = 8) -> nn.Module:
    """A network that draws in every forward pass."""
    return with_weights(nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 1)), 5)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """The job's optimizer."""
    return torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.05)


def cosine(optimizer: torch.optim.Optimizer, plan: object) -> torch.optim.lr_scheduler.LRScheduler:
    """A schedule that is told its length."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=UPDATES)


@dataclass(frozen=True, repr=False)
class Job:
    """One way to run the job; what is compared is the same for every number of workers and every way to save.

    Attributes:
        folder: Where the run folder, the log and the result lie.
        foreign: Whether the data is the foreign dataset.
        workers: Threads or processes that read ahead.
        background: Whether files are written by a thread.
        short: Whether the run ends after a few updates and saves more often; it is another run than the long one.
        extra: More callbacks.
        trainer: Changed arguments of the Trainer.
        saving: Changed arguments of Checkpoints.
        fit: Changed arguments of fit.
        model: The recipe of the model.
        train: The training data, where it is another.
    """

    folder: Path
    foreign: bool = False
    workers: int | data.Workers = 0
    background: bool = True
    short: bool = False
    extra: tuple[Callback, ...] = ()
    trainer: Mapping[str, Any] | None = None
    saving: Mapping[str, Any] | None = None
    fit: Mapping[str, Any] | None = None
    model: Callable[[], nn.Module] = network
    train: Any = None

    def __repr__(self) -> str:
        kind = "foreign" if self.foreign else "own"
        return f"({kind} data, workers {self.workers}, {'background' if self.background else 'foreground'})"

    @property
    def runs(self) -> Path:
        return self.folder / "run"

    def data(self) -> Any:
        """The training data."""
        if self.train is not None:
            return self.train
        return Foreign() if self.foreign else data.from_tensors(columns(SAMPLES, 1)).map_random(augmented)


def run_job(job: Job, *, resume: Any = True, model: nn.Module | None = None) -> dict[str, str]:
    """Train, or go on; return every leaf that must be equal at the end."""
    log = Log(job.folder / "log")
    own: dict[str, Callback] = {
        "early": EarlyStopping("valid/loss", patience=4, restore_best=True),
        "tally": LossSum(),
        "log": log,
    }
    every = Every(updates=SHORT_SAVE_EVERY if job.short else SAVE_EVERY)
    checkpoints = Checkpoints(
        job.runs, **{"every": every, "best": "valid/loss", "background": job.background, **(job.saving or {})}
    )
    choices: dict[str, Any] = {
        "optimizer": adamw,
        "scheduler": Schedule(cosine, every=Every(updates=1)),
        "accumulate": 2,
        "seed": 3,
        "progress": False,
        "device": "cpu",
        "callbacks": own | {f"extra{number}": callback for number, callback in enumerate(job.extra)},
        "checkpoints": checkpoints,
        **(job.trainer or {}),
    }
    trainer: Trainer[Any, Any] = Trainer(choices.pop("step", seeing_step), **choices)
    limit = SHORT_UPDATES if job.short else None
    fit = {"epochs": EPOCHS, "max_updates": limit, "batch_size": 4, "validate": every, **(job.fit or {})}
    validation = data.from_tensors(columns(10, 9))
    result = trainer.fit(
        job.model() if model is None else model, job.data(), workers=job.workers, validation=validation, resume=resume, **fit
    )
    state = {"run": log.run.state(), "rows": result.history.rows, "reason": result.reason}
    return dict(leaves(state))


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the exact text of every leaf; tensors by their SHA-256."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from leaves(value, f"{path}/{name}")
    elif isinstance(tree, (list, tuple)):
        for number, value in enumerate(tree):
            yield from leaves(value, f"{path}/{number}")
    elif isinstance(tree, Tensor):
        content = tree.detach().contiguous().numpy().tobytes()
        yield path, f"{tree.dtype} {list(tree.shape)} {hashlib.sha256(content).hexdigest()}"
    else:
        yield path, repr(tree)


def train_to_end(job: Job) -> None:
    """What a child does: train, or go on, and write the result down."""
    found = run_job(job)
    (job.folder / "result.part").write_text(json.dumps(found))
    (job.folder / "result.part").rename(job.folder / "result")


@dataclass(frozen=True)
class Ending:
    """What is compared at the end: every leaf of the run, and the last entry that the log has of each update."""

    leaves: dict[str, str]
    consumed: dict[int, str]


def read_log(folder: Path) -> tuple[list[int], list[int], dict[int, str]]:
    """Return where each process started, how far it came, and the last entry of each update."""
    starts: list[int] = []
    reached: list[int] = []
    entries: dict[int, str] = {}
    text = (folder / "log").read_text() if (folder / "log").exists() else ""
    for line in text.splitlines():
        kind, update, *rest = line.split(" ", 2)
        if kind == "start":
            starts.append(int(update))
            reached.append(int(update))
        else:
            reached[-1] = int(update)
            entries[int(update)] = rest[0]
    return starts, reached, entries


def ending_of(folder: Path) -> Ending:
    """Read what a finished job has left."""
    return Ending(json.loads((folder / "result").read_text()), read_log(folder)[2])


def unequal(found: Ending, wanted: Ending) -> str | None:
    """Return the first thing in which two endings differ, or None."""
    for name, here, there in (("", found.leaves, wanted.leaves), ("consumed ", found.consumed, wanted.consumed)):
        for key in [*there, *(key for key in here if key not in there)]:
            if here.get(key) != there.get(key):
                return f"{name}{key}: {here.get(key)} instead of {there.get(key)}"
    return None
