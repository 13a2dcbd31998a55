"""A trial: on copies of all that it could change, and with every random state put back."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from torchflow import building
from torchflow.blueprint import Blueprint
from torchflow.copies import generators_kept, refuse_iterators
from torchflow.limits import Limits
from torchflow.options import FitOptions, limits_of, reading_of, refuse_unknown
from torchflow.randomness import preserved
from torchflow.run import Run


@contextlib.contextmanager
def trial(blueprint: Blueprint[Any, Any], model: Any, data: Any) -> Iterator[tuple[Blueprint[Any, Any], Any]]:
    """Give a blueprint without callbacks and schedules, and a model: copies. Put random states back, and return the memory, at the end."""
    refuse_iterators(data=data)
    device = blueprint.choices.device
    with preserved(device), generators_kept(data):
        twin, copy = blueprint.on_copies(model)
        choices = replace(twin.choices, group=None, nonfinite="raise")  # compiling would take longer than the trial
        twin = replace(twin, choices=choices, callbacks={}, scheduler=None)
        try:
            yield twin, copy
        finally:
            del twin, copy
            if device.type == "cuda":
                gc.collect()
                torch.cuda.empty_cache()


@contextlib.contextmanager
def trial_of_fit(
    verb: str, blueprint: Blueprint[Any, Any], model: Any, train: Any, options: Mapping[str, Any]
) -> Iterator[tuple[Run[Any, Any], Limits]]:
    """Give the run that ``fit`` would make with these arguments, on copies, and put back what reading and building draw from."""
    refuse_unknown(verb, options, FitOptions)
    validation = options.get("validation")
    limits, named = limits_of(verb, options), building.named_validations(validation)
    blueprint.resume_of(options.get("resume", False))
    refuse_iterators(train=train, **named)
    with preserved(blueprint.choices.device), generators_kept(train, *named.values()):
        twin, copied_model = blueprint.on_copies(model)
        twin = replace(twin, choices=replace(twin.choices, group=None))  # compiling would take longer than the trial
        validate = options.get("validate")
        run = twin.run(copied_model, train, reading_of(options), validation=validation, validate=validate, limits=limits)
        try:
            yield run, limits
        finally:
            run.close()
