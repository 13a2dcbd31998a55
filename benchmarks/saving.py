"""What checkpoints cost a run: a model of 20 million parameters with Adam, saved every 2 seconds in the background.

    python benchmarks/saving.py [--rounds 5] [--seconds 20]

Training with and without checkpoints takes turns within one process. Printed are the median of the ratios of their time an
update, beside that of two runs without checkpoints (what lies within that control is noise); how far the longest update lies
above the median one, with and without saves, beside the time that copying the tensors takes; and how soon a resumed run makes its first update, beside the time
that reading and verifying the checkpoint takes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
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

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        self.times.append(time.perf_counter())

    @property
    def updates(self) -> list[float]:
        """The seconds of each update but the first two, which warm up."""
        return [later - earlier for earlier, later in zip(self.times[2:], self.times[3:], strict=False)]


def network() -> nn.Module:
    """Return a model of about 21 million parameters."""
    return nn.Sequential(*[nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)], nn.Linear(WIDTH, 1))


def train(seconds: float, folder: Path | None, *, resume: bool = False, updates: int | None = None) -> tuple[Clock, float]:
    """Train for some seconds; return the clock, and the moment at which it began."""
    clock = Clock()
    trainer: Trainer[nn.Module, Any] = Trainer(
        supervised(nn.MSELoss()),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-4, fused=True),
        callbacks=[clock],
        checkpoints=None if folder is None else Checkpoints(folder, every=Every(seconds=2)),
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios, controls, stalls, still, medians = [], [], [], [], []
    with tempfile.TemporaryDirectory() as place:
        for turn in range(arguments.rounds):
            folder = Path(place) / str(turn)
            runs = {"plain": train(arguments.seconds, None)[0].updates, "again": train(arguments.seconds, None)[0].updates}
            runs["saving"] = train(arguments.seconds, folder)[0].updates
            mean = {name: statistics.mean(times) for name, times in runs.items()}
            ratios.append(mean["saving"] / mean["plain"])
            controls.append(mean["again"] / mean["plain"])
            medians.append(statistics.median(runs["plain"]))
            stalls.append(max(runs["saving"]) - statistics.median(runs["saving"]))
            still.append(max(runs["plain"]) - statistics.median(runs["plain"]))
        start = time.perf_counter()
        loaded = Store(folder).load()
        reading = time.perf_counter() - start
        assert loaded is not None
        clock, began = train(0, folder, resume=True, updates=loaded.step + 1)
    print(f"torch {torch.__version__}, 1 thread, {arguments.rounds} rounds of {arguments.seconds:g} s, a save every 2 s")
    print(f"an update                            {statistics.median(medians) * 1e3:7.1f} ms")
    print(f"time with saves, ratio               {statistics.median(ratios):7.3f}    (control {statistics.median(controls):.3f})")
    print(
        f"longest stall of a save, median      {statistics.median(stalls) * 1e3:7.1f} ms (copying alone {copying() * 1e3:.1f} ms)"
    )
    print(f"resumed, first update after          {clock.times[0] - began:7.2f} s  (reading and verifying alone {reading:.2f} s)")


if __name__ == "__main__":
    main()
