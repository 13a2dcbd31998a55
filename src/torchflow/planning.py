"""Planning a run: its numbers, and a few updates of copies that are timed and measured."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from torchflow.blueprint import Blueprint
from torchflow.data.excerpts import Excerpt
from torchflow.errors import DataError
from torchflow.evaluation import evaluate_batches
from torchflow.hooks import HOOKS, Reactions
from torchflow.intervals import Every
from torchflow.limits import Limits
from torchflow.loop import update
from torchflow.moments import Timetable
from torchflow.randomness import torch_state
from torchflow.run import Run
from torchflow.run_plan import RunPlan
from torchflow.steps import Steps
from torchflow.tree import leaves
from torchflow.trials import trial_of_fit

TIMED = 3
"""How many updates are timed, after one that is not."""


def plan_run(blueprint: Blueprint[Any, Any], model: Any, train: Any, options: Mapping[str, Any]) -> RunPlan:
    """Return the plan of the run that ``fit`` would make with these arguments; see :meth:`torchflow.Trainer.plan`."""
    saver = blueprint.checkpoints
    with trial_of_fit("plan", blueprint, model, train, options) as (run, limits):
        if saver is not None:
            saver.check(run)
        return _planned(run, limits, None if saver is None else saver.every)


def _planned(run: Run[Any, Any], limits: Limits, save: Every | None) -> RunPlan:
    """Return the plan of a run, from a run on copies that this may train.

    Args:
        run: The run on copies.
        limits: The duration that is wanted.
        save: When a checkpoint is due, or None.

    Raises:
        TorchflowError: An update or a validation failed.
    """
    validate = run.validate if run.validations else None
    hooks = {hook: tuple(name for name, one in run.callbacks.items() if Reactions({name: one}).has(hook)) for hook in HOOKS}
    run.reactions = Reactions({})  # what is timed is the step; callbacks may write somewhere
    table = _timetable(run, limits, validate, save)
    batch_bytes, seconds, draws = _timed_updates(run)
    order = run.batches.describe().get("order")
    return RunPlan(
        timetable=table,
        updates=_updates(table, limits),
        max_seconds=limits.max_seconds,
        validations={name: batches.length for name, batches in run.validations.items()},
        validate=validate,
        save=save,
        hooks={hook: names for hook, names in hooks.items() if names},
        seed=run.choices.seed,
        order="the data's own order" if order is None else f"order of samples: {order}",
        draws=draws,
        microbatch=run.microbatch,
        memory=_memory(run, batch_bytes, saved=save is not None),
        seconds_per_update=seconds,
        seconds_per_validation=_timed_validation(run),
    )


def _timetable(run: Run[Any, Any], limits: Limits, validate: Every | None, save: Every | None) -> Timetable | None:
    batches = run.batches
    size = batches.describe().get("batch_size")  # batches that come from somewhere else do not say
    by_samples = any(every is not None and every.samples is not None for every in (validate, save))
    if batches.length is None or (by_samples and not isinstance(size, int)):
        return None
    return Timetable(
        batches=batches.length,
        size=size if isinstance(size, int) else 0,
        samples=batches.samples or 0,
        accumulate=run.choices.accumulate,
        epochs=limits.epochs,
        max_updates=limits.max_updates,
        validate=validate,
        save=save,
    )


def _updates(table: Timetable | None, limits: Limits) -> int | None:
    by_epochs = None if table is None or limits.epochs is None else limits.epochs * -(-table.batches // table.accumulate)
    return min((number for number in (by_epochs, limits.max_updates) if number is not None), default=None)


def _timed_updates(run: Run[Any, Any]) -> tuple[int, float, tuple[str, ...]]:
    """Return the bytes of a window, the median seconds of an update with its reading, and what the step drew from."""
    seconds: list[float] = []
    window: list[Any] = []
    drew = False
    noted = _noting_draws(run)
    with run.session(), contextlib.closing(_windows(run)) as windows:
        for _ in range(TIMED + 1):
            began = time.perf_counter()
            window = next(windows)
            run.randomness.seed(run.progress.updates, len(window) - 1, run.accelerator)
            before = torch_state(run.accelerator)  # that of the last forward pass
            update(run, window).loss.item()
            seconds.append(time.perf_counter() - began)
            drew = drew or any(noted) if run.losses else drew or _moved(run, before)
        run.randomness.check()
    names = (("torch", drew), ("random or numpy.random", run.randomness.drawn))
    return _bytes(leaves(window)), statistics.median(seconds[1:]), tuple(name for name, found in names if found)


def _moved(run: Run[Any, Any], before: list[Tensor]) -> bool:
    """Say whether torch's generators have moved on."""
    return not all(map(torch.equal, before, torch_state(run.accelerator)))


def _noting_draws(run: Run[Any, Any]) -> list[bool]:
    """Let every step of several note whether it draws: each has a stream of its own, so that the last one says nothing of the others."""
    noted: list[bool] = []

    def noting(step: Any) -> Any:
        def called(model: Any, batch: Any) -> Any:
            before = torch_state(run.accelerator)
            outputs = step(model, batch)
            noted.append(_moved(run, before))
            return outputs

        return called

    if isinstance(run.step, Steps):
        run.step = run.step.mapped(noting)
    return noted


def _windows(run: Run[Any, Any]) -> Generator[list[Any], None, None]:
    """Yield the batches of one update after the other, epoch after epoch."""
    for epoch in itertools.count():
        batches = run.batches.epoch(epoch)
        window = list(itertools.islice(batches, run.choices.accumulate))
        if not window:
            raise DataError(f"train gave no batch in epoch {epoch}. Pass data with at least one sample.")
        while window:
            yield window
            window = list(itertools.islice(batches, run.choices.accumulate))


def _timed_validation(run: Run[Any, Any]) -> float:
    """Return the seconds of a pass over every validation, from the first batch of each."""
    total = 0.0
    for batches in run.validations.values():
        began = time.perf_counter()
        evaluate_batches(run.step, run.model, Excerpt(batches, 1), where=run.choices, key=0, microbatch=run.microbatch)
        total += (time.perf_counter() - began) * (batches.length or 1)
    return total


def _memory(run: Run[Any, Any], batch: int, *, saved: bool) -> dict[str, int]:
    """Return bytes by what they hold; the optimizer's state is there after the updates that were timed."""
    parameters = list(run.model.parameters())
    state = (leaf for optimizer in run.optimizers.values() for leaf in leaves(dict(enumerate(optimizer.state.values()))))
    return {
        "parameters": _bytes(parameters),
        "buffers": _bytes(run.model.buffers()),
        "gradients": _bytes(parameter for parameter in parameters if parameter.requires_grad),
        "optimizer": _bytes(state),
        "batches of an update": batch,
        "a checkpoint on the disk": _bytes(leaves(run.state())) if saved else 0,
    }


def _bytes(values: Iterable[object]) -> int:
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))
