"""What a shuffled batch of a mapped table costs as the table grows, beside Arrow's own take over the whole.

python benchmarks/tables.py              a minute, 2 GB of disk
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from torchflow import data

BATCH, BATCHES = 256, 40


def parquet(path: Path, rows: int) -> None:
    """Write a table of four columns of numbers and one of twenty levels, a million rows at a time."""
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, pa.schema([*((name, pa.float64()) for name in "abcd"), ("level", pa.string())])) as writer:
        for start in range(0, rows, 1_000_000):
            size = min(1_000_000, rows - start)
            levels = pa.array([f"level {i}" for i in range(20)]).take(pa.array(rng.integers(0, 20, size)))
            writer.write_table(pa.table([*(rng.random(size) for _ in "abcd"), levels], schema=writer.schema))


def milliseconds(read: Callable[[torch.Tensor], object], rows: int, batches: int = BATCHES) -> float:
    """Return the median time of reading a random batch."""
    times = []
    generator = torch.Generator()
    for _ in range(batches):
        indices = torch.randint(0, rows, (BATCH,), generator=generator)
        start = time.perf_counter()
        read(indices)
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[batches // 2]


def main() -> None:
    """Print a line for each size."""
    print(f"batches of {BATCH} random rows, five columns, milliseconds (median of {BATCHES})\n")
    print("rows         decoding once, s   mapped   in memory   take over all of it")
    for rows in (1_000_000, 4_000_000, 16_000_000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.parquet"
            parquet(path, rows)
            start = time.perf_counter()
            mapped = data.from_parquet(path, cache=Path(folder) / "cache")
            decoding = time.perf_counter() - start
            memory = data.from_parquet(path, max_bytes=2**32)
            whole = pa.ipc.open_file(pa.memory_map(str(next(Path(folder).glob("cache/*/*.arrow"))))).read_all()
            costs = [
                milliseconds(mapped.take_batch, rows),
                milliseconds(memory.take_batch, rows),
                milliseconds(lambda indices, whole=whole: whole.take(pa.array(indices.numpy())), rows, 5),  # type: ignore[misc]
            ]
            print(f"{rows:<12,} {decoding:<18.1f} {costs[0]:<8.2f} {costs[1]:<11.2f} {costs[2]:.1f}")


if __name__ == "__main__":
    main()
