"""A trial of a trainer: on copies of all that it could change, and with every random state put back."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from torchflow import arguments
from torchflow.copies import generators_kept, refuse_iterators
from torchflow.errors import ArgumentTypeError
from torchflow.randomness import preserved
from torchflow.trainer import Trainer


@contextlib.contextmanager
def trial(trainer: Any, model: Any, data: Any) -> Iterator[tuple[Trainer[Any, Any], Any]]:
    """Give a trainer and a model that are copies; put random states back, and return the memory, at the end."""
    if not isinstance(trainer, Trainer):
        raise ArgumentTypeError(f"trainer must be a Trainer, got {arguments.shown(trainer)}.")
    refuse_iterators(data=data)
    device = trainer.choices.device
    with preserved(device), generators_kept(data):
        twin, copy = trainer._on_copies(model)
        twin.choices = replace(twin.choices, group=None, nonfinite="raise")  # compiling would take longer than the trial
        twin._callbacks, twin._scheduler = {}, None
        try:
            yield twin, copy
        finally:
            del twin, copy
            if device.type == "cuda":
                gc.collect()
                torch.cuda.empty_cache()
