"""What only a fresh process can measure: import time and peak memory. Called by benchmarks.scaling.

    python -m benchmarks.fresh import
    python -m benchmarks.fresh memory hand|torchflow ROWS

Prints seconds of ``import torch`` and then of ``import torchflow``; or bytes: resident before the data, the data's, the peak.
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


if __name__ == "__main__":
    main()
