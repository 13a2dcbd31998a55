"""What checkpoints cost a run: a model of 20 million parameters with Adam, saved every 2 seconds in the background.

    python benchmarks/saving.py [--rounds 20] [--seconds 5]

Training with and without checkpoints takes turns within one process. Printed are the medians of the ratios of their time an
update, by the clock and by the processor time of the training thread, beside those of two runs without checkpoints (what lies
within that control is noise); how long a save holds the loop up, beside the time that copying the tensors takes; and how soon a
resumed run makes its first update, beside the time that reading and verifying the checkpoint takes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchflow import Callback, Checkpoints, Every, Run, Stepped, Trainer, supervised
from torchflow.checkpoint import Store

WIDTH, LAYERS = 2048, 5


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


def copying() -> float:
    """Return the seconds that copying what Adam and the model hold takes, into memory that was used before."""
    parts = [torch.randn(WIDTH, WIDTH) for _ in range(3 * LAYERS)]
    copies = [part.clone() for part in parts]
    start = time.perf_counter()
    for copy, part in zip(copies, parts, strict=True):
        copy.copy_(part)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds: list[dict[str, tuple[float, float]]] = []
    stalls: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        for turn in range(arguments.rounds):
            saver = Timed(Path(place) / str(turn))
            arms: dict[str, Timed | None] = {"plain": None, "again": None, "saving": saver}
            names = list(arms)[turn % 3 :] + list(arms)[: turn % 3]  # each arm is as often the first as the last
            rounds.append({name: train(arguments.seconds, arms[name])[0].update for name in names})
            stalls += saver.stalls
            if turn:
                shutil.rmtree(Path(place) / str(turn - 1))
        start = time.perf_counter()
        loaded = Store(saver.folder).load()
        reading = time.perf_counter() - start
        assert loaded is not None
        clock, began = train(0, Timed(saver.folder), resume=True, updates=loaded.step + 1)
    print(f"torch {torch.__version__}, 1 thread, {arguments.rounds} rounds of {arguments.seconds:g} s, a save every 2 s")
    print(f"an update                            {statistics.median(each['plain'][0] for each in rounds) * 1e3:7.1f} ms")
    for number, what in enumerate(("time with saves, ratio              ", "work of the training thread, ratio  ")):
        saving, control = (
            statistics.median(each[arm][number] / each["plain"][number] for each in rounds) for arm in ("saving", "again")
        )
        print(f"{what} {saving:7.3f}    (control {control:.3f})")
    print(f"a save holds the loop up, median     {statistics.median(stalls) * 1e3:7.1f} ms (longest {max(stalls) * 1e3:.1f} ms)")
    print(f"copying the tensors alone            {copying() * 1e3:7.1f} ms")
    print(f"resumed, first update after          {clock.times[0] - began:7.2f} s  (reading and verifying alone {reading:.2f} s)")


if __name__ == "__main__":
    main()
