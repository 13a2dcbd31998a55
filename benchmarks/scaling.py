"""How costs grow: with the model, the batch, the callbacks, the rows; memory, import and watching.

    python -m benchmarks.scaling [--only model,batch,callbacks,rows,memory,import,watching] [--rounds 8] [--quick]

Wherever times are compared, torchflow (with history, bar and early stopping) and the loop by hand take turns within one process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from benchmarks import results
from benchmarks.contestants.flow import bare, watched
from benchmarks.contestants.loops import hand
from benchmarks.pairs import Pair, in_turns
from benchmarks.turns import ROOT, environment
from benchmarks.workloads import Workload, regression

WIDTHS = (0, 8, 32, 128, 512, 3_100)
BATCHES = (1, 8, 64, 512, 4_096)
CALLBACKS = (0, 10, 100)
ROWS = (10**3, 10**4, 10**5, 10**6, 10**7)
UPDATES_OF_A_ROUND = 400


def model(rounds: int, quick: bool) -> list[results.Row]:
    """Measure an update against the number of parameters, from 2 on, batch 32, Adam."""
    rows = []
    for width in WIDTHS[:2] if quick else WIDTHS:
        network = partial(nn.Linear, 1, 1) if not width else partial(_perceptron, width)
        size = sum(p.numel() for p in network().parameters())
        updates = 5 if quick else max(10, min(UPDATES_OF_A_ROUND, 10**8 // max(1, size)))
        rows.append({"parameters": size, **_compared(regression(network, updates, 32), rounds)})
    return rows


def batch(rounds: int, quick: bool) -> list[results.Row]:
    """Measure an update against the samples of a batch, on the perceptron of W2."""
    sizes = BATCHES[:2] if quick else BATCHES
    updates = 5 if quick else 150
    return [{"batch": size, **_compared(regression(partial(_perceptron, 128), updates, size), rounds)} for size in sizes]


def callbacks(rounds: int, quick: bool) -> list[results.Row]:
    """Measure an update of W1 against the number of callbacks that override no hook."""
    small = regression(partial(nn.Linear, 1, 1), 10 if quick else 10_000, 32)
    functions: dict[str, Callable[[], float]] = {
        str(count): lambda count=count: watched(small, idle=count).seconds  # type: ignore[misc]
        for count in CALLBACKS
    }
    pairs = in_turns(functions, 2 * rounds)
    return [{"callbacks": int(count), **_row(pair, small.updates)} for count, pair in pairs.items()]


def rows(rounds: int, quick: bool) -> list[results.Row]:
    """Measure an epoch against its rows: one feature, batch 1,024."""
    found = []
    for count in ROWS[:1] if quick else ROWS:
        grown = regression(partial(nn.Linear, 1, 1), 0, 1_024, rows=count)
        pairs = _pairs(grown, max(1, rounds // 2) if count > 10**6 else rounds)
        own = pairs["torchflow"]
        found.append({"rows": count, "seconds": own.seconds, "nanoseconds_a_row": own.seconds / count * 1e9, "ratio": own.ratio})
    return found


def memory(rounds: int, quick: bool) -> list[results.Row]:
    """Measure the peak of resident memory over what was there before the data, in units of the data's size."""
    count = 2_000 if quick else 2_000_000
    found = []
    for who in ("torchflow",) if quick else ("hand", "torchflow"):
        before, data, peak = map(int, _child("memory", who, str(count)).split())
        found.append(
            {"who": who, "data_mb": data / 1e6, "over_data": (peak - before - data) / data, "over_mb": (peak - before - data) / 1e6}
        )
    return found


def importing(rounds: int, quick: bool) -> list[results.Row]:
    """Measure what ``import torchflow`` takes after ``import torch``, both with their bytecode, as pip leaves a package."""
    with tempfile.TemporaryDirectory() as bytecode:
        once = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
        _child("import", **once)
        times = [list(map(float, _child("import", **once).split())) for _ in range(1 if quick else 7)]
    torch_alone, own = (statistics.median(column) for column in zip(*times, strict=True))
    return [{"torch_s": torch_alone, "torchflow_s": own}]


def watching(rounds: int, quick: bool) -> list[results.Row]:
    """Measure what the bar and early stopping cost, as a share of 100 µs: of an update at 10,000 updates a second."""
    small = regression(partial(nn.Linear, 1, 1), 10 if quick else 10_000, 32)
    functions: dict[str, Callable[[], float]] = {
        "bare": lambda: bare(small).seconds,
        "bare-again": lambda: bare(small).seconds,
        "watched": lambda: watched(small).seconds,
    }
    pairs = in_turns(functions, 3 * rounds)
    first = pairs["bare"].seconds / small.updates
    return [
        {"what": name, **_row(pair, small.updates), "share_at_10000": (pair.ratio - 1) * first / 100e-6}
        for name, pair in pairs.items()
    ]


PARTS: dict[str, Callable[[int, bool], list[results.Row]]] = {
    "model": model,
    "batch": batch,
    "callbacks": callbacks,
    "rows": rows,
    "memory": memory,
    "import": importing,
    "watching": watching,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="such as model,rows")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, nothing stored")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for part in chosen.only.split(","):
        print(f"{part}: {(PARTS[part].__doc__ or '').splitlines()[0]}", flush=True)
        found = PARTS[part](1 if chosen.quick else chosen.rounds, chosen.quick)
        for row in found:
            print("  " + results.shown(row), flush=True)
        if not chosen.quick:
            results.store(f"scaling-{part}", found)


def _perceptron(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


def _pairs(trained: Workload, rounds: int) -> dict[str, Pair]:
    return in_turns({"hand": lambda: hand(trained).seconds, "torchflow": lambda: watched(trained).seconds}, rounds)


def _compared(trained: Workload, rounds: int) -> results.Row:
    pairs = _pairs(trained, rounds)
    return {"hand_us": pairs["hand"].seconds / trained.updates * 1e6, **_row(pairs["torchflow"], trained.updates)}


def _row(pair: Pair, updates: int) -> results.Row:
    return {"microseconds": pair.seconds / updates * 1e6, "ratio": pair.ratio, "quartiles": list(pair.quartiles)}


def _child(*arguments: str, **variables: str) -> str:
    """Return what benchmarks.fresh prints in a process of its own, with environment variables beside the usual ones."""
    call = [sys.executable, "-m", "benchmarks.fresh", *arguments]
    return subprocess.run(call, cwd=ROOT, env=environment(1) | variables, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
