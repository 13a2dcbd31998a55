"""Reactions to what the loop reports, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchflow.callbacks.checkpoints import Checkpoints
from torchflow.callbacks.history import Best, History
from torchflow.callbacks.progress_bar import ProgressBar
from torchflow.hooks import Callback, Stop
from torchflow.lazy import importing

if TYPE_CHECKING:
    from torchflow.callbacks.early_stopping import EarlyStopping
    from torchflow.callbacks.ema import EMA
    from torchflow.callbacks.freeze import Freeze
    from torchflow.callbacks.stopping_rule import Judged, Rule, judge
    from torchflow.callbacks.swa import SWA
    from torchflow.callbacks.unfreeze import Unfreeze

__getattr__ = importing(
    __name__,
    {
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
    "Callback",
    "Checkpoints",
    "EarlyStopping",
    "Freeze",
    "History",
    "Judged",
    "ProgressBar",
    "Rule",
    "Stop",
    "Unfreeze",
    "judge",
]
