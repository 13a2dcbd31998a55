"""Verifying that a run which is killed and resumed ends equal to one that nobody disturbed."""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torchflow import arguments
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.intervals import Every
from torchflow.testing.advice import advice_on_resume
from torchflow.testing.calling import checked_job, checked_names, started
from torchflow.testing.child import Assignment
from torchflow.testing.places import JobFunction
from torchflow.testing.recording import Recording
from torchflow.testing.report import Report, first_differences


@dataclass(frozen=True)
class Kill:
    """Where a process is killed.

    Args:
        update: The update, counted from 1.
        middle: In the middle of it, when the first optimizer has stepped and the progress has not; else right after it is
            finished and every callback has seen it, before any checkpoint of it.

    Raises:
        ArgumentTypeError: ``update`` is no whole number.
        ArgumentValueError: ``update`` is below 1.
    """

    update: int
    middle: bool = False

    def __post_init__(self) -> None:
        arguments.whole("kills", self.update)
        arguments.flag("Kill(middle=…)", self.middle)


def verify_resume(
    job: JobFunction,
    *,
    kills: Sequence[int | Kill] | None = None,
    signal: str = "SIGKILL",
    every: Every | None = None,
    ignore: Sequence[str] = (),
    timeout: float = 300.0,
    check: bool = True,
) -> Report:
    """Check on a job of your own that a run which is killed and resumed ends equal to one that nobody disturbed.

    One process trains the job undisturbed. Others train it in a run folder of their own, each with ``resume=True``, and are
    killed where ``kills`` says; the last one trains to the end. At every update they write down the batches, the loss, and
    hashes of the model, the optimizers, the schedulers, the metrics and the callbacks; then all are compared, updates that
    were made again included.

    Args:
        job: A function at the top of a module that takes nothing and returns a :class:`Job`; every process calls it once.
        kills: The updates to kill at, in rising order; a number kills right after that update. None kills once after
            a third of the updates, and once in the middle of an update after two thirds.
        signal: ``"SIGKILL"``, or ``"SIGTERM"`` or ``"SIGINT"``, at which a run saves before it leaves.
        every: When checkpoints are due; None means about five times in the run. All else is as in the job's own
            checkpoints, where it has some.
        ignore: Patterns of paths that are not compared, such as ``"attributes/timer/*"``.
        timeout: Seconds that one process may take.
        check: Whether a difference raises; else it is in the report alone.

    Returns:
        What was compared, and what differs first.

    Raises:
        ArgumentTypeError: ``job`` is no such function, or another argument has the wrong type.
        ArgumentValueError: A kill lies beyond the end of the run, kills do not rise, or no process went on from a checkpoint.
        ChildError: A process failed by itself, or did not end in time; its traceback is in the message.
        DifferenceError: The runs differ, and ``check`` is True; the message is the report.
    """
    place, patterns = checked_job("verify_resume", job), checked_names("ignore", ignore)
    chosen, interval = _checked_kills(kills), _checked_interval(every)
    arguments.one_of("signal", signal, [name for name in ("SIGKILL", "SIGTERM", "SIGINT") if hasattr(signals, name)])
    with started(timeout) as (children, folder):
        alone = Assignment(place, str(folder / "undisturbed.jsonl"), str(folder / "undisturbed" / "run"), every=interval)
        reference = children.run(alone)
        total = _checked_total(reference, chosen)
        # One interval for long and short jobs, and mostly in mid-epoch: a checkpoint lies before each of the usual kills.
        interval = interval or {"updates": max(1, total // 5)}
        usual = [Kill(max(1, total // 3)), Kill(max(1, 2 * total // 3), middle=True)]
        chain: list[Recording] = []
        for number, kill in enumerate([*(chosen or usual), None]):
            told = replace(alone, record=str(folder / f"{number}.jsonl"), runs=str(folder / "run"), every=interval, resume=True)
            if kill is not None:
                told = replace(told, kill=kill.update, middle=kill.middle, signal=signal)
            chain.append(children.run(told))
            if chain[-1].killed is None:
                break  # the last one; or one that ended before it was killed, which is a difference
    report = _resume_report(reference, chain, patterns)
    if check:
        report.raise_for_difference()
    if report.equal and not any(recording.started for recording in chain):
        raise ArgumentValueError(
            "no process went on from a checkpoint, so nothing was verified: every kill came before the first one. Pass later kills, "
            "or a shorter interval such as every=Every(updates=1)."
        )
    return report


def _checked_interval(every: Every | None) -> dict[str, Any] | None:
    if every is None:
        return None
    if not isinstance(every, Every):
        raise ArgumentTypeError(f"every must be an interval such as Every(updates=5), got {arguments.shown(every)}.")
    return {name: value for name in Every.__slots__ if (value := getattr(every, name)) is not None}


def _checked_kills(kills: Sequence[int | Kill] | None) -> list[Kill] | None:
    if kills is None:
        return None
    if isinstance(kills, (str, int)) or not kills:
        raise ArgumentTypeError(f"kills must be a list of updates such as (3, 17), got {arguments.shown(kills)}.")
    chosen = [kill if isinstance(kill, Kill) else Kill(kill) for kill in kills]
    if [kill.update for kill in chosen] != sorted(kill.update for kill in chosen):
        raise ArgumentValueError(
            f"kills must rise, for each process goes on after the one before it; got {arguments.shown(kills)}."
        )
    return chosen


def _checked_total(reference: Recording, chosen: list[Kill] | None) -> int:
    total = len(reference.updates)
    if total < 2:
        raise ArgumentValueError(f"the job makes {total} update(s), which leaves nothing to go on with. Give it two or more.")
    if beyond := [kill.update for kill in chosen or () if kill.update > total]:
        raise ArgumentValueError(f"kills names update {beyond[0]}, and the run ends after {total}.")
    return total


def _resume_report(reference: Recording, chain: list[Recording], ignore: list[str]) -> Report:
    # What differs before anything was killed, among attributes, is a clock or an address: no state that a resume could keep.
    first = {update: snapshot for update, snapshot in chain[0].updates.items() if update in reference.updates}
    unrepeatable = sorted(
        {
            path
            for update, snapshot in first.items()
            for path, text in snapshot.items()
            if path.startswith("attributes/") and reference.updates[update].get(path) != text
        }
    )
    different = first_differences(reference, chain, [*ignore, *unrepeatable, *(f"end/{path}" for path in unrepeatable)])
    return Report(
        what="resume",
        differences=tuple(different),
        updates=len(reference.updates),
        values=reference.values,
        processes=(reference.story, *(recording.story for recording in chain)),
        unrepeatable=tuple(unrepeatable),
        advice=advice_on_resume(different),
    )
