"""What only a fresh process can measure: import time and peak memory. Called by benchmarks.scaling.

    python -m benchmarks.fresh import
    python -m benchmarks.fresh memory hand|torchflow ROWS
    python -m benchmarks.fresh map FILE LIMIT

Prints seconds of ``import torch`` and then of ``import torchflow``; or bytes: resident before the data, the data's, the peak; or the
seconds of an epoch over the rows of a mapped array, trained with so many bytes of memory beside what it has at the start.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path


def main() -> None:
    """Measure one thing."""
    if sys.argv[1] == "import":
        start = time.perf_counter()
        import torch  # noqa: F401, PLC0415  (this is what is timed)

        middle = time.perf_counter()
        import torchflow  # noqa: F401, PLC0415

        print(middle - start, time.perf_counter() - middle)
    elif sys.argv[1] == "map":
        print(mapped(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        print(*memory(sys.argv[2], int(sys.argv[3])))


def memory(who: str, rows: int) -> tuple[int, int, int]:
    """Train one epoch on rows of 64 bytes; return what was resident before the data, the data's size, and the peak."""
    from functools import partial  # noqa: PLC0415  (after the choice: the import that is timed must be the first)

    from torch import nn  # noqa: PLC0415

    from benchmarks.contestants import flow, loops  # noqa: PLC0415
    from benchmarks.workloads import regression  # noqa: PLC0415

    train = {"hand": loops.hand, "torchflow": flow.watched}[who]
    train(regression(partial(nn.Linear, 32, 1), 0, 1_024, rows=2_000))  # what is made once, in torch and in us
    before = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    grown = regression(partial(nn.Linear, 32, 1), 0, 1_024, rows=rows)
    data = sum(column.numel() * column.element_size() for column in grown.train)
    train(grown)
    return before, data, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mapped(path: Path, limit: int) -> float:
    """Train one epoch on a mapped array, reading ahead by a thread, and return its seconds.

    The limit is RLIMIT_DATA: heap and private memory, not the pages of the file that the system keeps while it has room.
    """
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    from benchmarks.contestants.flow import Stopwatch  # noqa: PLC0415
    from torchflow import Trainer, data  # noqa: PLC0415

    watch, line = Stopwatch(), nn.Linear(np.load(path, mmap_mode="r").shape[1], 1)
    trainer = Trainer(
        lambda model, batch: model(batch).square().mean(),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=1e-6),
        callbacks=[watch],
        progress=False,
    )
    trainer.fit(line, torch.zeros(64, line.in_features), epochs=1, workers=1)  # what is made once is made before the limit
    if limit:
        private = int(
            next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmData")).split()[1]
        )
        resource.setrlimit(resource.RLIMIT_DATA, (private * 1024 + limit, private * 1024 + limit))
    trainer.fit(line, data.from_arrays(np.load(path, mmap_mode="r")), epochs=1, batch_size=64, workers=1)
    return time.perf_counter() - watch.began


if __name__ == "__main__":
    main()
