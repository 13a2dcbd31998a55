"""What checkpoints cost a run: a model of 20 million parameters with Adam, saved every 2 seconds in the background.

    python benchmarks/saving.py [--rounds 20] [--seconds 8] [--keep]

Training with and without checkpoints takes turns, each time in a new process: whether freed gradients go back to the system, and
have to be asked for again at every update, depends on what else the process has allocated. Printed are the medians of the ratios
of their time an update beside those of two runs without checkpoints (what lies within that control is noise); how long a save holds
the loop up, beside the time that copying the tensors takes; and how soon a resumed run makes its first update, beside the time that
reading and verifying the checkpoint takes. With ``--keep``, the C library is told to keep what is freed, in every run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from torchflow import Callback, Checkpoints, Every, Run, Stepped, Trainer, supervised
from torchflow.checkpoint import Store

WIDTH, LAYERS = 2048, 5
ARMS = ["plain", "again", "saving"]
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


class Clock(Callback):
    """Notes when each update was finished."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.worked: list[float] = []

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        self.times.append(time.perf_counter())
        self.worked.append(time.thread_time())

    @property
    def update(self) -> tuple[float, float]:
        """The mean seconds of an update, by the clock and of this thread's work; the first two warm up."""
        return statistics.mean(_between(self.times[2:])), statistics.mean(_between(self.worked[2:]))


class Timed(Checkpoints):
    """Notes how long each save holds the loop up."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, every=Every(seconds=2))
        self.stalls: list[float] = []

    def boundary(self, run: Run[Any, Any]) -> None:
        start, saved = time.perf_counter(), self._published
        super().boundary(run)
        if self._published != saved:
            self.stalls.append(time.perf_counter() - start)


def _between(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def network() -> nn.Module:
    """Return a model of about 21 million parameters."""
    return nn.Sequential(*[nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)], nn.Linear(WIDTH, 1))


def train(seconds: float, saver: Timed | None, *, resume: bool = False, updates: int | None = None) -> tuple[Clock, float]:
    """Train for some seconds; return the clock, and the moment at which it began."""
    clock = Clock()
    trainer: Trainer[nn.Module, Any] = Trainer(
        supervised(nn.MSELoss()),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-4, fused=True),
        callbacks=[clock],
        checkpoints=saver,
        progress=False,
    )
    x = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(0))
    data, model = (x, x[:, :1]), network()
    began = time.perf_counter()
    trainer.fit(model, data, batch_size=64, resume=resume, max_seconds=seconds if updates is None else None, max_updates=updates)
    return clock, began


def copying() -> tuple[float, float]:
    """Return the seconds that copying what Adam and the model hold takes: into new memory, and into memory that was used before."""
    parts = [torch.randn(WIDTH, WIDTH) for _ in range(3 * LAYERS)]
    start = time.perf_counter()
    copies = [part.clone() for part in parts]
    middle = time.perf_counter()
    for copy, part in zip(copies, parts, strict=True):
        copy.copy_(part)
    return middle - start, time.perf_counter() - middle


def arm(name: str, seconds: float) -> dict[str, list[float]]:
    """Measure one run; this is what a child process does."""
    with tempfile.TemporaryDirectory() as folder:
        saver = Timed(Path(folder)) if name == "saving" else None
        clock, _ = train(seconds, saver)
        found = {"update": list(clock.update), "stalls": [], "copying": list(copying())}
        if saver is None:
            return found
        start = time.perf_counter()
        loaded = Store(saver.folder).load()
        reading = time.perf_counter() - start
        assert loaded is not None
        resumed, began = train(0, Timed(saver.folder), resume=True, updates=loaded.step + 1)
        return found | {"stalls": saver.stalls, "resuming": [resumed.times[0] - began, reading]}


def in_child(name: str, seconds: float, keep: bool) -> dict[str, list[float]]:
    """Measure one run in a new process."""
    command = [sys.executable, __file__, "--arm", name, "--seconds", str(seconds)]
    output = subprocess.run(command, env=os.environ | (KEEPING if keep else {}), stdout=subprocess.PIPE, check=True).stdout
    found: dict[str, list[float]] = json.loads(output)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--keep", action="store_true", help="tell the C library to keep the memory that is freed")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.arm:
        print(json.dumps(arm(arguments.arm, arguments.seconds)))
        return
    rounds: list[dict[str, dict[str, list[float]]]] = []
    for turn in range(arguments.rounds):
        names = ARMS[turn % 3 :] + ARMS[: turn % 3]  # each arm is as often the first as the last
        rounds.append({name: in_child(name, arguments.seconds, arguments.keep) for name in names})
    kept = ", memory kept" if arguments.keep else ""
    print(f"torch {torch.__version__}, 1 thread, {arguments.rounds} rounds of {arguments.seconds:g} s, a save every 2 s{kept}")
    print(f"an update                            {median(each['plain']['update'][0] for each in rounds) * 1e3:7.1f} ms")
    for number, what in enumerate(("time with saves, ratio              ", "work of the training thread, ratio  ")):
        saving, control = (
            median(each[name]["update"][number] / each["plain"]["update"][number] for each in rounds)
            for name in ("saving", "again")
        )
        print(f"{what} {saving:7.3f}    (control {control:.3f})")
    saves = [each["saving"] for each in rounds]
    for what, stalls, copy in (
        ("the first save holds the loop up    ", [each["stalls"][0] for each in saves], 0),
        ("a later save                        ", [stall for each in saves for stall in each["stalls"][1:]], 1),
    ):
        alone = median(each["copying"][copy] for each in saves)
        print(f"{what} {median(stalls) * 1e3:7.1f} ms  (copying alone into {('new', 'used')[copy]} memory {alone * 1e3:.1f} ms)")
    began, reading = (median(each["resuming"][number] for each in saves) for number in (0, 1))
    print(f"resumed, first update after          {began:7.2f} s   (reading and verifying alone {reading:.2f} s)")


if __name__ == "__main__":
    main()
