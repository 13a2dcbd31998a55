"""Reactions to what the loop reports, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchflow.callbacks.checkpoints import Checkpoints
from torchflow.callbacks.history import Best, History
from torchflow.callbacks.progress_bar import ProgressBar
from torchflow.hooks import Callback, Stop
from torchflow.lazy import importing

if TYPE_CHECKING:
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
    from torchflow.callbacks.stopping_rule import Judged, Rule, judge
    from torchflow.callbacks.swa import SWA
    from torchflow.callbacks.tensorboard import TensorBoard
    from torchflow.callbacks.throughput import Speed, Throughput
    from torchflow.callbacks.timer import Timer, Times
    from torchflow.callbacks.unfreeze import Unfreeze

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
        "torchflow.callbacks.throughput": (
            "Speed",
            "Throughput",
        ),
        "torchflow.callbacks.timer": (
            "Timer",
            "Times",
        ),
        "torchflow.callbacks.unfreeze": ("Unfreeze",),
        "torchflow.callbacks.swa": ("SWA",),
        "torchflow.callbacks.freeze": ("Freeze",),
        "torchflow.callbacks.ema": ("EMA",),
        "torchflow.callbacks.early_stopping": ("EarlyStopping",),
        "torchflow.callbacks.stopping_rule": ("Judged", "Rule", "judge"),
    },
)

__all__ = [
    "EMA",
    "SWA",
    "Best",
    "CSVLog",
    "Callback",
    "Checkpoints",
    "EarlyStopping",
    "Freeze",
    "GradientNorm",
    "History",
    "JSONLines",
    "Judged",
    "LearningRate",
    "Notify",
    "Profile",
    "ProgressBar",
    "Rule",
    "Sample",
    "Speed",
    "Stop",
    "TensorBoard",
    "Throughput",
    "Timer",
    "Times",
    "Unfreeze",
    "judge",
]
