"""Verifying that what watches a run does not change it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torchflow.testing.advice import advice_on_observers
from torchflow.testing.calling import checked_job, checked_names, started
from torchflow.testing.child import Assignment
from torchflow.testing.places import JobFunction
from torchflow.testing.report import Report, first_differences


def verify_observers(
    job: JobFunction,
    *,
    observers: Collection[str] = (),
    ignore: Sequence[str] = (),
    timeout: float = 300.0,
    check: bool = True,
) -> Report:
    """Check on a job of your own that what watches the training does not change it.

    One process trains the job as it is, another one without its observers, and every update that both make is compared:
    batches, loss, metrics, model, optimizers and schedulers. Early stopping may end the first one sooner.

    Args:
        job: A function at the top of a module that takes nothing and returns a :class:`Job`; every process calls it once.
        observers: What to leave out: names of callbacks, ``"validation"``, ``"checkpoints"`` and ``"progress"``. Nothing
            named leaves out everything but callbacks that say ``changes_run``, and a validation whose values they or a
            schedule want.
        ignore: Patterns of paths that are not compared.
        timeout: Seconds that one process may take.
        check: Whether a difference raises; else it is in the report alone.

    Returns:
        What was compared, and what differs first.

    Raises:
        ArgumentTypeError: ``job`` is no such function, or another argument has the wrong type.
        ArgumentValueError: The call stands in the job's own module, outside of ``if __name__ == "__main__"``.
        ChildError: A process failed by itself, or did not end in time: also where an observer is not there, or
            another one cannot do without it.
        DifferenceError: The runs differ, and ``check`` is True; the message is the report.
    """
    place, patterns = checked_job("verify_observers", job), checked_names("ignore", ignore)
    names = checked_names("observers", observers)
    with started(timeout) as (children, folder):
        watched, bare = (
            children.run(
                Assignment(place, str(folder / f"{name}.jsonl"), str(folder / name / "run"), observers=True, leave_out=leave_out)
            )
            for name, leave_out in (("watched", None), ("bare", names))
        )
    different = first_differences(watched, [bare], patterns, stopped=watched.stopped)
    report = Report(
        what="observers",
        differences=tuple(different),
        updates=len(watched.updates),
        values=watched.values,
        processes=(watched.story, bare.story),
        left_out=bare.left_out,
        advice=advice_on_observers(different, bare.left_out),
    )
    if check:
        report.raise_for_difference()
    return report
