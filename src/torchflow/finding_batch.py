"""Finding the largest batch that fits by trying, on copies: nothing of the trials is left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torchflow import arguments
from torchflow.blueprint import Blueprint
from torchflow.data.interop import as_dataset
from torchflow.data.reading import Reading
from torchflow.data.workers import Workers
from torchflow.device import out_of_memory
from torchflow.errors import NonFiniteError, OutOfMemoryError
from torchflow.loop import events
from torchflow.trainer import Trainer, blueprint_of
from torchflow.trials import trial
from torchflow.types import B, Data, M


@dataclass(frozen=True, slots=True, repr=False)
class BatchSizes:
    """What :func:`torchflow.find_batch_size` returns.

    Attributes:
        largest: The largest batch that fitted.
        limit: The largest that was allowed, at most all samples of the data.
        tried: Every size that was tried, in order, and whether it fitted.
        samples: How many samples the data has.
    """

    largest: int
    limit: int
    tried: tuple[tuple[int, bool], ...]
    samples: int

    def __repr__(self) -> str:
        if self.largest == self.samples:
            why = "the data has no more"
        else:
            why = "all that was allowed" if self.largest == self.limit else f"{self.largest + 1:,} does not fit"
        return f"BatchSizes({self.largest:,} samples fit; {why}; {len(self.tried)} sizes were tried)"


def find_batch_size(
    trainer: Trainer[M, B],
    model: M | Callable[[], M],
    data: Data[B],
    *,
    start: int = 32,
    limit: int | None = None,
    workers: int | Workers = 0,
    collate: Callable[[list[Any]], B] | None = None,
) -> BatchSizes:
    """Return the largest batch of which an update fits into the memory of the device.

    Sizes are doubled from ``start`` on until one does not fit, then the gap is halved until it is closed. Each is tried for two updates of a fresh
    copy, because many optimizers take their memory at the first one. Leave some of it free: samples may differ in size, and memory splinters
    while a run goes on. The trainer's ``microbatch`` is left aside: the answer is the largest one that makes sense. A model that is on the device already takes its room twice while its copies are tried; pass a recipe for an exact answer.

    Args:
        trainer: The mathematics and the hardware.
        model: The model, whose weights stay as they are, or its recipe.
        data: The training data: a dataset, or what becomes one.
        start: The first size that is tried.
        limit: The largest size that is tried; all samples of the data by default.
        workers: As in :meth:`torchflow.Trainer.fit`.
        collate: As in ``fit``.

    Returns:
        The largest size that fits, and every size that was tried.

    Raises:
        ArgumentTypeError: An argument has the wrong type, or cannot be copied.
        ArgumentValueError: An argument has an impossible value.
        DataError: The data is not what it was taken for.
        OutOfMemoryError: Not even one sample fits.
    """
    first = arguments.whole("start", start)
    dataset = as_dataset(data)
    most = min(len(dataset), arguments.whole_or_none("limit", limit) or len(dataset))
    tried: list[tuple[int, bool]] = []

    def fits(size: int) -> bool:
        with trial(blueprint_of(trainer), model, data) as (twin, copy):
            plain = replace(twin, choices=replace(twin.choices, accumulate=1, nonfinite="skip", microbatch=None))
            reading = Reading(size, last_batch="drop", workers=workers, collate=collate)
            tried.append((size, _fits(plain, copy, dataset, reading)))
        return tried[-1][1]

    largest = largest_fitting(fits, first, most)
    if not largest:
        raise OutOfMemoryError(
            "find_batch_size: not even a batch of one sample fits into the memory of the device. Use a smaller model, smaller samples or "
            "another device."
        )
    return BatchSizes(largest, most, tuple(tried), len(dataset))


def largest_fitting(fits: Callable[[int], bool], start: int, limit: int) -> int:
    """Return the largest size from 1 to ``limit`` that fits, or 0: doubling from ``start``, then bisection.

    Args:
        fits: Says whether a size fits; where one does, every smaller one does.
        start: The first size to try.
        limit: The largest size to try, at least 1.
    """
    size, good, bad = min(start, limit), 0, limit + 1
    while good < bad - 1:
        if fits(size):
            good, doubled = size, 2 * size
            size = min(doubled, limit) if bad > limit else (good + bad) // 2
        else:
            bad = size
            size = (good + bad) // 2
    return good


def _fits(twin: Blueprint[Any, Any], model: Any, data: Any, reading: Reading) -> bool:
    """Make two updates; say whether the memory sufficed."""
    try:
        run = twin.run(model, data, reading, validation=None, validate=None, limits=None)
        try:
            for _ in events(run, max_updates=2):
                pass
        finally:
            run.close()
    except OutOfMemoryError:
        return False
    except NonFiniteError:  # of the numbers, nothing is wanted
        return True
    except RuntimeError as error:  # while the model or the optimizer's state was put on the device
        if out_of_memory(error, "a trial") is None:
            raise
        return False
    return True
