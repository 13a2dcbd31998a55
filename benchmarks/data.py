"""What data costs: decoding pictures on threads, fetching a table's batches, training on an array that is larger than the memory.

    python -m benchmarks.data [--only pictures,fetch,map] [--rounds 3] [--quick]

pictures: 2,000 JPEGs of 256 x 256, a small CNN; torchflow with 2 threads beside a DataLoader with 2 worker processes, forked and
spawned, on the same order.
fetch: the batches of an epoch of W2, beside two ``index_select`` a batch.
map: a memory-mapped array of four times a limit on the process's memory, beside reads of the same rows by ``os.preadv``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import results
from benchmarks.pairs import in_turns
from benchmarks.pictures import by_dataloader, by_torchflow, draw_pictures
from benchmarks.turns import ROOT, environment
from benchmarks.workloads import SEED, workload
from torchflow.data import batches_of
from torchflow.data.order import order_of
from torchflow.randomness import Keys

ROW = 16_384
"""Float32 numbers of a row of the mapped array: 64 KiB."""


def pictures(rounds: int, quick: bool) -> list[results.Row]:
    """Measure the first update and two epochs."""
    number = 40 if quick else 2_000
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = draw_pictures(Path(folder), number)
        arms: dict[str, Callable[[], Any]] = {
            "DataLoader, 2 forked processes": lambda: by_dataloader(files, "fork"),
            "DataLoader, 2 spawned processes": lambda: by_dataloader(files, "spawn"),
            "torchflow, 2 threads": lambda: by_torchflow(Path(folder), files),
        }
        laps: dict[str, list[Any]] = {name: [] for name in arms}
        for turn in range(rounds):
            for name in list(laps)[:: -1 if turn % 2 else 1]:
                laps[name].append(arms[name]())
    losses = [lap.loss for own in laps.values() for lap in own]
    assert max(losses) - min(losses) < 1e-4 * max(losses), f"they trained something else: {losses}"
    for name, own in laps.items():
        first, one, two = (statistics.median(column) for column in zip(*(lap[:3] for lap in own), strict=True))
        rows.append({"who": name, "first_update_s": first, "first_epoch_s": one, "later_epoch_s": two, "pictures": number})
    return rows


def fetch(rounds: int, quick: bool) -> list[results.Row]:
    """Measure what the batches of an epoch of W2 cost, and count the gathers."""
    w2 = workload("W2").shortened(20) if quick else workload("W2")
    own = batches_of(w2.train, keys=Keys(SEED), name="train", batch_size=w2.batch)
    epochs = count()  # each call pays for an order of its own

    def timed(batches: Iterator[Any]) -> float:
        start = time.perf_counter()
        for _ in islice(batches, w2.updates):
            pass
        return time.perf_counter() - start

    pairs = in_turns(
        {"by hand": lambda: timed(w2.batches(next(epochs))), "torchflow": lambda: timed(own.epoch(next(epochs)))}, 5 * rounds
    )
    with Gathers() as gathers:
        next(iter(own.epoch(0)))
    return [
        {
            "who": name,
            "microseconds_a_batch": pair.seconds / w2.updates * 1e6,
            "ratio": pair.ratio,
            "gathers_a_batch": gathers.count,
        }
        for name, pair in pairs.items()
    ]


class Gathers(TorchDispatchMode):
    """Counts the gathers in its block."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and do what was asked for."""
        self.count += function is torch.ops.aten.index_select.default
        return function(*args, **(kwargs or {}))


def mapped(rounds: int, quick: bool) -> list[results.Row]:
    """Measure an epoch over a mapped array in a process whose memory is limited to a quarter of it."""
    number = 256 if quick else 16_384
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:  # not /tmp, which may lie in memory
        path = Path(folder) / "rows.npy"
        _write(path, number)
        order = order_of(number, Keys(SEED)("order", 0))[:number].numpy()
        found: dict[str, list[float]] = {"reads": [], "torchflow": []}
        for turn in range(rounds):
            for who in list(found)[:: -1 if turn % 2 else 1]:
                _forget(path)
                found[who].append(_reads(path, order) if who == "reads" else _in_little_memory(path, 0 if quick else number * ROW))
    megabytes = number * ROW * 4 / 1e6
    reads = statistics.median(found["reads"])
    return [
        {
            "who": who,
            "mb": megabytes,
            "seconds": (own := statistics.median(times)),
            "mb_a_second": megabytes / own,
            "ratio": own / reads,
        }
        for who, times in found.items()
    ]


def _write(path: Path, rows: int) -> None:
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, ROW))
    generator = np.random.default_rng(SEED)
    for start in range(0, rows, 1_024):
        array[start : start + 1_024] = generator.random((min(1_024, rows - start), ROW), np.float32)
    array.flush()
    del array


def _forget(path: Path) -> None:
    """Make the system forget what it has of a file, so that the next read comes from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _reads(path: Path, order: np.ndarray[Any, Any]) -> float:
    """Return the seconds that reading the rows in this order takes, with nothing done to them."""
    size = ROW * 4
    begin, buffer = path.stat().st_size - len(order) * size, bytearray(size)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        start = time.perf_counter()
        for index in order:
            os.preadv(file.fileno(), [buffer], begin + int(index) * size)
        return time.perf_counter() - start


def _in_little_memory(path: Path, limit: int) -> float:
    """Train an epoch in a process that may take ``limit`` bytes beside what it has at its start; return the seconds."""
    call = [sys.executable, "-m", "benchmarks.fresh", "map", str(path), str(limit)]
    return float(subprocess.run(call, cwd=ROOT, env=environment(1), check=True, capture_output=True, text=True).stdout)


PARTS: dict[str, Callable[[int, bool], list[results.Row]]] = {"pictures": pictures, "fetch": fetch, "map": mapped}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="such as pictures,map")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, nothing stored")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for part in chosen.only.split(","):
        print(f"{part}: {(PARTS[part].__doc__ or '').splitlines()[0]}", flush=True)
        found = PARTS[part](1 if chosen.quick else chosen.rounds, chosen.quick)
        for row in found:
            print("  " + results.shown(row), flush=True)
        if not chosen.quick:
            results.store(f"data-{part}", found)


if __name__ == "__main__":
    main()
