"""torchflow: train PyTorch models with a loop you can trust.

A run is a pure function of its seed, its data and its first weights; nothing that watches it changes it, nothing that kills
it loses it, and it is as fast as the loop you would have written by hand.

>>> import torch
>>> from torch import nn
>>> from torchflow import Trainer, data, supervised
>>> points = data.linear(weight=0.7, bias=0.3, samples=200, seed=0)
>>> trainer = Trainer(
...     supervised(nn.MSELoss()),
...     optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.5),
...     progress=False,
... )
>>> result = trainer.fit(lambda: nn.Linear(1, 1), points, epochs=30)
>>> round(result.model.weight.item(), 1), round(result.model.bias.item(), 1)
(0.7, 0.3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchflow import data, errors, metrics
from torchflow.callbacks.checkpoints import Checkpoints
from torchflow.callbacks.history import History
from torchflow.callbacks.progress_bar import ProgressBar
from torchflow.events import EpochEnded, EpochStarted, Event, Failed, Finished, Gradients, Plan, Started, Stepped, Validated
from torchflow.hooks import Callback, Stop
from torchflow.intervals import Every, Progress
from torchflow.lazy import importing
from torchflow.loop import events, update
from torchflow.run import Run
from torchflow.saving import Resume, load, save
from torchflow.schedule import Schedule
from torchflow.step import Outputs, Step, supervised
from torchflow.trainer import Result, Trainer
from torchflow.updates import Updates

if TYPE_CHECKING:
    from torchflow import plots
    from torchflow.callbacks.csv_log import CSVLog
    from torchflow.callbacks.early_stopping import EarlyStopping
    from torchflow.callbacks.ema import EMA
    from torchflow.callbacks.freeze import Freeze
    from torchflow.callbacks.gradient_norm import GradientNorm
    from torchflow.callbacks.json_lines import JSONLines
    from torchflow.callbacks.learning_rate import LearningRate
    from torchflow.callbacks.notify import Notify
    from torchflow.callbacks.profile import Profile
    from torchflow.callbacks.sample import Sample
    from torchflow.callbacks.swa import SWA
    from torchflow.callbacks.tensorboard import TensorBoard
    from torchflow.callbacks.throughput import Throughput
    from torchflow.callbacks.timer import Timer
    from torchflow.callbacks.unfreeze import Unfreeze
    from torchflow.checkpoint import load_model, save_model
    from torchflow.checkpoint.foreign import import_torch
    from torchflow.cross_validation import CrossValidation, Fold, cross_validate
    from torchflow.finding_batch import BatchSizes, find_batch_size
    from torchflow.finding_rate import find_learning_rate
    from torchflow.range_test import LearningRateTest
    from torchflow.recipes import layer_wise, one_cycle, warm_up_cosine
    from torchflow.rehearsal import Rehearsal
    from torchflow.run_plan import RunPlan
    from torchflow.summarizing import Layer, Summary, summary

__getattr__ = importing(
    __name__,
    {
        "torchflow.callbacks.csv_log": ("CSVLog",),
        "torchflow.callbacks.gradient_norm": ("GradientNorm",),
        "torchflow.callbacks.json_lines": ("JSONLines",),
        "torchflow.callbacks.learning_rate": ("LearningRate",),
        "torchflow.callbacks.notify": ("Notify",),
        "torchflow.callbacks.profile": ("Profile",),
        "torchflow.callbacks.sample": ("Sample",),
        "torchflow.callbacks.tensorboard": ("TensorBoard",),
        "torchflow.callbacks.throughput": ("Throughput",),
        "torchflow.callbacks.timer": ("Timer",),
        "torchflow.recipes": (
            "layer_wise",
            "one_cycle",
            "warm_up_cosine",
        ),
        "torchflow.callbacks.unfreeze": ("Unfreeze",),
        "torchflow.callbacks.swa": ("SWA",),
        "torchflow.callbacks.freeze": ("Freeze",),
        "torchflow.callbacks.ema": ("EMA",),
        "torchflow.callbacks.early_stopping": ("EarlyStopping",),
        "torchflow.checkpoint": ("load_model", "save_model"),
        "torchflow.checkpoint.foreign": ("import_torch",),
        "torchflow.cross_validation": ("CrossValidation", "Fold", "cross_validate"),
        "torchflow.finding_batch": ("BatchSizes", "find_batch_size"),
        "torchflow.finding_rate": ("find_learning_rate",),
        "torchflow.plots": (),
        "torchflow.range_test": ("LearningRateTest",),
        "torchflow.rehearsal": ("Rehearsal",),
        "torchflow.run_plan": ("RunPlan",),
        "torchflow.summarizing": ("Layer", "Summary", "summary"),
    },
)

__version__ = "0.1.0"

__all__ = [
    "EMA",
    "SWA",
    "BatchSizes",
    "CSVLog",
    "Callback",
    "Checkpoints",
    "CrossValidation",
    "EarlyStopping",
    "EpochEnded",
    "EpochStarted",
    "Event",
    "Every",
    "Failed",
    "Finished",
    "Fold",
    "Freeze",
    "GradientNorm",
    "Gradients",
    "History",
    "JSONLines",
    "Layer",
    "LearningRate",
    "LearningRateTest",
    "Notify",
    "Outputs",
    "Plan",
    "Profile",
    "Progress",
    "ProgressBar",
    "Rehearsal",
    "Result",
    "Resume",
    "Run",
    "RunPlan",
    "Sample",
    "Schedule",
    "Started",
    "Step",
    "Stepped",
    "Stop",
    "Summary",
    "TensorBoard",
    "Throughput",
    "Timer",
    "Trainer",
    "Unfreeze",
    "Updates",
    "Validated",
    "cross_validate",
    "data",
    "errors",
    "events",
    "find_batch_size",
    "find_learning_rate",
    "import_torch",
    "layer_wise",
    "load",
    "load_model",
    "metrics",
    "one_cycle",
    "plots",
    "save",
    "save_model",
    "summary",
    "supervised",
    "update",
    "warm_up_cosine",
]
