"""The look for common mistakes before a run whose first update is compiled; one that is made uncompiled is looked at itself."""

from __future__ import annotations

from typing import Any

import torch

from torchflow.compiled.reasons import Unprimed
from torchflow.evaluation import evaluating, evaluation_key
from torchflow.mistakes import tell_doubts
from torchflow.run import Run
from torchflow.step import checked_loss


def look(run: Run[Any, Any], batch: Any) -> None:
    """Make a forward pass in evaluation mode, which changes nothing of the run, and warn of what is very likely a mistake.

    Raises:
        Unprimed: The pass failed. The update is made uncompiled, and says where it was and what it means.
    """
    key = evaluation_key(run.keys, "look", run.progress.updates)
    try:
        with evaluating(run.model, run.choices.device, key), torch.enable_grad():
            outputs = checked_loss(run.step(run.model, batch), training=True)
    except Exception as error:
        raise Unprimed from error
    tell_doubts(run, run.step, outputs, batch)
