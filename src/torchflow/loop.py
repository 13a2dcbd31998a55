"""The only training loop: update() makes one optimizer step, events() makes a run of them.

Every yield is a safe point, at which nothing is half done: save, break, and go on later with another call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

from torchflow import interruption
from torchflow.alternating import made_update
from torchflow.device import move, out_of_memory
from torchflow.errors import ArgumentTypeError, DataError, TorchflowError
from torchflow.evaluation import evaluate_batches, evaluation_key
from torchflow.events import EpochEnded, EpochStarted, Event, Finished, Started, Stepped, Validated
from torchflow.hooks import tell_failure
from torchflow.intervals import Progress
from torchflow.limits import Limits
from torchflow.mistakes import meaning_of, warn_of_growth
from torchflow.run import Run
from torchflow.tree import shapes
from torchflow.types import B, M
from torchflow.updating import Counted, NotFinite, dropped, mean_loss, mean_metrics, total_count


def update(run: Run[M, B], batches: list[B]) -> Stepped:
    """Make one update from one or more batches: one optimizer step, and the progress is replaced.

    This is the lowest floor: ``for batch in run.batches.epoch(0): torchflow.update(run, [batch])``. Schedulers that count
    updates step here; validation, callbacks and the ends of epochs belong to :func:`events`.

    Args:
        run: The run, from :meth:`torchflow.Trainer.start`.
        batches: The batches of one update, weighed by their counts.

    Returns:
        The finished update; its loss and metrics are device tensors of shape ().

    Raises:
        NonFiniteError: The loss or a gradient is NaN or infinite, under ``nonfinite="raise"``; nothing was changed.
        StepError: The step returned something that cannot be trained on.
        OutOfMemoryError: The device's memory did not suffice.
    """
    if not isinstance(batches, list) or not batches:
        raise ArgumentTypeError("update(run, batches) takes a list of the batches of one update. Write update(run, [batch]).")
    stepped = _update(run, batches)
    run.settled = True
    return stepped


def _update(run: Run[M, B], batches: list[B]) -> Stepped:
    """Make one update; the run is settled when its callbacks have seen it."""
    before, device, layout = run.progress, run.choices.device, run.choices.memory_format
    rates = {name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in run.optimizers.items()}
    run.settled, skipped = False, 0
    try:
        moved = [move(batch, device, layout) for batch in batches]
        parts = made_update(run, moved)
    except NotFinite as found:
        parts, skipped = dropped(run, found, batches), 1
    except Exception as error:
        if explained := out_of_memory(error, f"update {before.updates}"):
            raise explained from error
        if not isinstance(error, TorchflowError):  # the user's own code: say where it was, and on what
            error.add_note(
                f"torchflow: in update {before.updates} (epoch {before.epoch}, batch {before.batch}), on {shapes(batches)}"
            )
            if (meaning := meaning_of(error, batches[0])) is not None:
                error.add_note(f"torchflow: {meaning}")
        raise
    finally:
        for parameter in run.parameters:
            parameter.grad = None
    _commit(run, len(batches), parts, skipped)
    return Stepped(run.progress, mean_loss(parts), mean_metrics(parts), total_count(parts), rates, skipped)


def _commit(run: Run[Any, Any], batches: int, parts: list[Counted], skipped: int) -> None:
    """Count a finished update: from here on it has happened."""
    before = epoch, batch, updates, samples, validated = run.progress
    for part in parts:
        samples += part.samples
    now = Progress(epoch, batch + batches, updates + 1, samples, validated)
    if not skipped:
        for part in parts:
            run.averages.add(part.loss, part.weight, part.metrics)
        if run.schedulings:
            run.step_schedules(before, now)
    run.previous, run.progress = before, now


def events(
    run: Run[M, B], *, epochs: int | None = None, max_updates: int | None = None, max_seconds: float | None = None
) -> Generator[Event, None, None]:
    """Train, and yield what has happened; every yield is a safe point at which to save, break, and go on later.

    Validation and callbacks run in here, before the yield of the event that they belong to. The limits count from the
    run's first update, so a call with the same limits goes on where a ``break`` left. Without limits it goes on for ever.
    While the generator is suspended, the process's random state is the run's; it is put back when the generator ends.

    Args:
        run: The run, from :meth:`torchflow.Trainer.start`.
        epochs: Epochs in all.
        max_updates: Updates in all.
        max_seconds: Seconds of this call.

    Yields:
        ``Started``, ``EpochStarted``, ``Stepped``, ``Validated``, ``EpochEnded`` and at last ``Finished``.

    Raises:
        CallbackError: A callback raised.
        DataError: The data is empty, or ends before its length says.
        NonFiniteError, StepError, OutOfMemoryError: As :func:`update`.
    """
    return _events(run, Limits(epochs, max_updates, max_seconds))


def _events(run: Run[Any, Any], limits: Limits) -> Generator[Event, None, None]:
    with run.session():
        try:
            run.list_parameters()
            run.randomness.probe()  # between two calls the process had a random state of its own
            run.confirm_stop()
            started = _report(run, "on_fit_start", Started(run.progress, run.plan))
            run.fresh = False
            yield started
            run.saver.start(run)
            if run.epoch_started == run.progress.epoch:  # left inside an epoch: what was due there comes first, stopped or not
                yield from _epoch(run, limits)
            while (over := _over(run, limits)) is None:
                yield from _epoch(run, limits)
            run.saver.finish(run)
        except BaseException as error:
            tell_failure(run, error)
            raise
        finished = Finished(run.progress, over)
        if (failure := run.reactions.end("on_fit_end", run, finished)) is not None:
            raise failure
        yield finished


def _epoch(run: Run[M, B], limits: Limits) -> Iterator[Event]:
    """Train from where the progress stands to the end of its epoch, or until the run is over."""
    run.randomness.probe()
    with contextlib.closing(_windows(run) if run.compiled is None else run.compiled.windows(run, _windows)) as windows:
        if run.epoch_started < run.progress.epoch:
            run.epoch_started = run.progress.epoch
            yield _report(run, "on_epoch_start", EpochStarted(run.progress))
            window = next(windows, None)
            if window is None:
                raise DataError(f"train gave no batch in epoch {run.progress.epoch}. Pass data with at least one sample.")
        else:  # going on inside an epoch: first what was due where the run was left
            window = next(windows, None)
            yield from _boundary(run, last=window is None)
        while window is not None and _over(run, limits) is None:
            batches, last = window
            together = None if isinstance(batches, list) else run.compiled
            stepped = _update(run, batches) if together is None else together.update(run, batches, _update)
            yield _report(run, "on_step_end", stepped)
            if last or run.watched:
                yield from _boundary(run, last)
            window = next(windows, None)  # after the last, this finds data that gives more than it says


def _windows(run: Run[M, B]) -> Generator[tuple[list[B], bool], None, None]:
    """Yield the batches of each update from the run's position on, and whether the epoch ends with them."""
    size, length, position = run.choices.accumulate, run.batches.length, run.progress.batch
    window: list[B] = []
    for batch in run.batches.epoch(run.progress.epoch, position):
        if length is None and len(window) == size:  # only the next batch of a stream tells that the window was not its last
            yield window, False
            window = []
        window.append(batch)
        position += 1
        if length is not None and (len(window) == size or position == length):
            yield window, position == length
            window = []
    if window:
        yield window, True
    if length is not None and position < length:
        raise DataError(
            f"train ended after {position} of {length} batches of epoch {run.progress.epoch}. Its length is not what it says."
        )


def _boundary(run: Run[M, B], last: bool) -> Iterator[Event]:
    """Do what is due between two updates: validation, its scheduler, the epoch's end, and last the saver."""
    progress = run.progress
    if run.validations and progress.validated != progress.updates:
        reached = progress._replace(epoch=progress.epoch + 1) if last else progress
        if run.validation_alarm.rings(run.previous, reached):
            yield _validate(run)
    if last:
        yield _end_epoch(run)
    run.saver.boundary(run)


def _validate(run: Run[M, B]) -> Event:
    """Evaluate every validation dataset; training goes on as if nobody had looked."""
    values: dict[str, float] = {}
    with run.validating():
        for name, batches in run.validations.items():
            key = evaluation_key(run.keys, name, run.progress.updates)
            metrics = evaluate_batches(run.step, run.model, batches, where=run.choices, key=key, microbatch=run.microbatch)
            values |= {f"{name}/{metric}": value for metric, value in metrics.items()}
        run.settled = False
        run.validated_metrics = values
        run.progress = run.progress._replace(validated=run.progress.updates)
        run.step_schedulers(values)
        return _report(run, "on_validation_end", Validated(run.progress, values))


def _end_epoch(run: Run[Any, Any]) -> Event:
    """Close the epoch: the one moment at which train metrics are read from the device."""
    ended = run.progress
    values = {f"train/{name}": value for name, value in run.averages.compute().items()}
    warn_of_growth(run, values["train/loss"])
    run.settled = False
    run.step_schedulers(values)
    if ended.validated == ended.updates:
        values |= run.validated_metrics
    run.averages.reset()
    run.progress = Progress(ended.epoch + 1, 0, ended.updates, ended.samples, ended.validated)
    run.step_schedules(ended, run.progress)
    return _report(run, "on_epoch_end", EpochEnded(ended, values))


def _report(run: Run[Any, Any], hook: str, event: Event) -> Event:
    """Call the callbacks; in between, some know of the event and others do not, so nothing may be saved."""
    run.settled = False
    if hook == "on_step_end":  # the hook of every update draws on from the update's own stream; the rare ones have a stream each
        run.reactions(hook, run, event)
    elif run.reactions.has(hook):
        with run.randomness.aside(run.keys(hook, run.progress.updates), run.accelerator):
            run.reactions(hook, run, event)
    run.settled = True
    return event


def _over(run: Run[Any, Any], limits: Limits) -> str | None:
    """Return why the run is over, or None while it goes on; leave where a signal has asked for it."""
    interruption.check()
    return limits.reached(run.progress) if run.stop is None else run.stop[1].reason
