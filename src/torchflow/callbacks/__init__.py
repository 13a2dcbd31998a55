"""Reactions to what the loop reports, one file each."""

from __future__ import annotations

from torchflow.callbacks.checkpoints import Checkpoints
from torchflow.callbacks.early_stopping import EarlyStopping
from torchflow.callbacks.history import Best, History
from torchflow.callbacks.progress_bar import ProgressBar
from torchflow.callbacks.stopping_rule import Judged, Rule, judge
from torchflow.hooks import Callback, Stop

__all__ = ["Best", "Callback", "Checkpoints", "EarlyStopping", "History", "Judged", "ProgressBar", "Rule", "Stop", "judge"]
