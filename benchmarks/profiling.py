"""Where a microsecond goes: an update of W1 and of W2, taken apart.

    python -m benchmarks.profiling [--seconds 6] [--rounds 10] [--quick]

First a ladder of loops by hand, each with one thing more than the one before, in turns, with torchflow as its last rungs: the differences are what
the parts cost in place. Then torchflow's own update by samples of where the program is, a thousand a second: by the innermost place
that has a name below. The module is not called profile, which would hide Python's own.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from benchmarks import results
from benchmarks.contestants.flow import bare, watched
from benchmarks.contestants.loops import hand
from benchmarks.pairs import in_turns
from benchmarks.workloads import Workload, workload

RUNGS = ("fetch", "forward and loss", "backward, gradients to None", "optimizer's step", "sum of losses")

# From the place in a file's path, and the functions where not all of them, to what an update does there. The first that fits counts.
PLACES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("torch/nn/modules/loss.py", (), "the user's loss"),
    ("torch/nn/", (), "the user's model"),
    ("torch/autograd/", (), "backward"),
    ("torch/_tensor.py", ("backward",), "backward"),
    ("torch/optim/", (), "the user's optimizer"),
    ("torchflow/precision.py", ("backward",), "backward"),
    ("torchflow/optimizer_steps.py", (), "the user's optimizer"),
    ("torchflow/finite.py", (), "finite? clipping"),
    ("torchflow/precision.py", (), "finite? clipping"),
    ("torchflow/data/", (), "fetching the batch"),
    ("torchflow/device.py", (), "moving the batch"),
    ("torchflow/randomness.py", (), "seeding the forward pass"),
    ("torchflow/averages.py", (), "averages, for the history"),
    ("torchflow/step.py", (), "the step and its checks"),
    ("torchflow/callbacks/", (), "callbacks"),
    ("torchflow/hooks.py", (), "callbacks"),
    ("torchflow/", (), "the loop itself: progress, events, limits"),
)


def ladder(trained: Workload, rounds: int) -> list[results.Row]:
    """Measure loops with one thing more each, and torchflow."""
    functions: dict[str, Callable[[], float]] = {rung: _rung(trained, number + 1) for number, rung in enumerate(RUNGS)}
    functions |= {
        "by hand, with zero_grad()": lambda: hand(trained).seconds,
        "torchflow, bare": lambda: bare(trained).seconds,
        "torchflow, with bar and early stopping": lambda: watched(trained).seconds,
    }
    pairs = in_turns(functions, rounds)
    rows: list[results.Row] = []
    for name, pair in pairs.items():
        up_to = pair.seconds / trained.updates * 1e6
        before = rows[-1]["up_to"] if rows and name in RUNGS else 0.0
        rows.append({"workload": trained.name, "part": name, "up_to": up_to, "alone": up_to - before if name in RUNGS else None})
    return rows


def _rung(trained: Workload, height: int) -> Callable[[], float]:
    """Return a function that times an epoch of the first ``height`` parts of an update."""

    def timed() -> float:
        model, loss_function, total = trained.model(), trained.loss(), torch.zeros(())
        optimizer, parameters = trained.best_optimizer(model), list(model.parameters())
        x, y = trained.train
        start = time.perf_counter()
        for indices in trained.order(0).split(trained.batch):
            inputs, targets = x.index_select(0, indices), y.index_select(0, indices)
            if height >= 2:
                loss = loss_function(model(inputs), targets)
            if height >= 3:
                loss.backward()
            if height >= 4:
                optimizer.step()
            if height >= 3:
                for parameter in parameters:
                    parameter.grad = None
            if height >= 5:
                total += loss.detach()
        return time.perf_counter() - start

    return timed


def sampled(trained: Workload, seconds: float) -> list[results.Row]:
    """Train with bar and early stopping for some seconds, and say in which part it was how often."""
    watched(trained)  # warms up
    counts: Counter[str] = Counter()
    updates, end = 0, time.perf_counter() + seconds
    taken = 0.0
    with _sampling(counts):
        while time.perf_counter() < end:
            taken += watched(trained).seconds
            updates += trained.updates
    inside = {part: number for part, number in counts.items() if part != _OUTSIDE}
    whole = sum(inside.values())
    each = taken / updates * 1e6
    return [
        {"workload": trained.name, "part": part, "share": number / whole, "microseconds": number / whole * each, "samples": whole}
        for part, number in sorted(inside.items(), key=lambda item: -item[1])
    ]


_OUTSIDE = "outside"


@contextmanager
def _sampling(counts: Counter[str]) -> Iterator[None]:
    """Count where the program is, a thousand times a second."""

    def look(_: int, frame: FrameType | None) -> None:
        counts[_part(frame)] += 1

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _part(frame: FrameType | None) -> str:
    """Return what the innermost frame with a place in the table does, if the loop is among its callers."""
    found, in_the_loop = "", False
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if not found:
            found = next((part for place, names, part in PLACES if place in file and (not names or name in names)), "")
        in_the_loop = in_the_loop or (file.endswith("torchflow/loop.py") and "torchflow" in Path(file).parts)
        frame = frame.f_back
    return found if found and in_the_loop else _OUTSIDE


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a moment, one round, nothing stored")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rungs: list[results.Row] = []
    samples: list[results.Row] = []
    for name in ("W1", "W2"):
        trained = workload(name).of_rows(2_000) if chosen.quick else workload(name)
        rungs += ladder(trained, 1 if chosen.quick else chosen.rounds)
        samples += sampled(trained, 0.2 if chosen.quick else chosen.seconds)
    for row in (*rungs, *samples):
        print("  " + results.shown(row), flush=True)
    if not chosen.quick:
        results.store("profiling-ladder", rungs)
        results.store("profiling-samples", samples)


if __name__ == "__main__":
    main()
