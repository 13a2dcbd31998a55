"""How batches are read ahead: how many workers, and how worker processes begin."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from typing import Literal

from torchflow import arguments
from torchflow.errors import ArgumentTypeError

STARTS = ("fork", "spawn")


@dataclass(frozen=True, slots=True)
class Workers:
    """What ``workers=`` takes where a number is not enough; the batches are the same whatever is chosen.

    Torchflow's own sources and random maps are read by threads, which only ``number`` and ``prefetch`` concern. Python of the
    user runs in processes.

    Args:
        number: How many threads or processes; 0 makes each batch when it is asked for.
        prefetch: How many batches are under way for each worker: fewer where they fill the memory, more where some take
            much longer than others.
        start: How processes begin. ``"fork"`` is quick and copies nothing, but a library that has threads or a device open by then
            may hang in the child. ``"spawn"`` begins with a new interpreter: the dataset is sent to it, so that its classes and
            functions must lie at the top of a module and a script must train under ``if __name__ == "__main__":``. None is
            "fork" on Linux and "spawn" elsewhere.
        persistent: Whether processes stay for the next epoch. New ones each epoch give back the memory that a dataset gathers.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: A number that is too small, or a ``start`` that this system does not have.
    """

    number: int
    prefetch: int = 2
    start: Literal["fork", "spawn"] | None = None
    persistent: bool = True

    def __post_init__(self) -> None:
        arguments.whole("Workers(number=…)", self.number, minimum=0)
        arguments.whole("Workers(prefetch=…)", self.prefetch)
        if self.start is not None:
            there = [word for word in STARTS if word in multiprocessing.get_all_start_methods()]
            arguments.one_of("Workers(start=…)", self.start, there)
        arguments.flag("Workers(persistent=…)", self.persistent)


def workers_of(workers: object) -> Workers:
    """Return what an argument ``workers`` says.

    Raises:
        ArgumentTypeError: It is neither a count nor :class:`Workers`.
        ArgumentValueError: A negative count.
    """
    if isinstance(workers, Workers):
        return workers
    if workers is Workers:
        raise ArgumentTypeError("workers must be an int or data.Workers(2, …), got the class itself; call it.")
    return Workers(arguments.whole("workers", workers, minimum=0, hint="data.Workers(2, start='spawn') says more than a number."))
