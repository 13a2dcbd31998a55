"""The columns of the report's tables on growth and on data, and how their numbers read."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.results import Row

Columns = dict[str, Callable[[Row], str]]


def _ratio_of(row: Row) -> str:
    low, high = row["quartiles"]
    return f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"


GROWTH: dict[str, tuple[str, Columns]] = {
    "model": (
        "Model size.",
        {
            "parameters": lambda row: f"{row['parameters']:,}",
            "by hand, µs an update": lambda row: f"{row['hand_us']:,.0f}",
            "torchflow, ratio": _ratio_of,
        },
    ),
    "batch": (
        "Batch size.",
        {
            "samples of a batch": lambda row: f"{row['batch']:,}",
            "by hand, µs an update": lambda row: f"{row['hand_us']:,.0f}",
            "torchflow, ratio": _ratio_of,
        },
    ),
    "callbacks": (
        "Callbacks that override no hook.",
        {
            "callbacks": lambda row: str(row["callbacks"]),
            "µs an update of W1": lambda row: f"{row['microseconds']:.1f}",
            "ratio to none": _ratio_of,
        },
    ),
    "rows": (
        "Rows of an epoch: one feature, batch 1,024.",
        {
            "rows": lambda row: f"{row['rows']:,}",
            "s an epoch": lambda row: f"{row['seconds']:.4f}",
            "ns a row": lambda row: f"{row['nanoseconds_a_row']:.0f}",
            "ratio to hand": lambda row: f"{row['ratio']:.2f}",
        },
    ),
    "memory": (
        "Memory: the peak over what was resident before the data.",
        {
            "who": lambda row: row["who"],
            "data, MB": lambda row: f"{row['data_mb']:.0f}",
            "over the data's own size, MB": lambda row: f"{row['over_mb']:.0f}",
            "as a share of the data": lambda row: f"{row['over_data']:.1%}",
        },
    ),
    "import": (
        "Import.",
        {
            "import torch, s": lambda row: f"{row['torch_s']:.2f}",
            "then import torchflow, s": lambda row: f"{row['torchflow_s']:.3f}",
        },
    ),
    "watching": (
        "Watching W1: bar and early stopping, as a share of 100 µs, which is an update at 10,000 a second.",
        {
            "what": lambda row: row["what"],
            "µs an update": lambda row: f"{row['microseconds']:.1f}",
            "ratio to bare": _ratio_of,
            "share": lambda row: f"{row['share_at_10000']:+.1%}",
        },
    ),
}
DATA: dict[str, tuple[str, Columns]] = {
    "pictures": (
        "2,000 JPEGs of 256 x 256, decoded while a small CNN is trained on them.",
        {
            "who": lambda row: row["who"],
            "first update after, s": lambda row: f"{row['first_update_s']:.3f}",
            "first epoch, s": lambda row: f"{row['first_epoch_s']:.2f}",
            "second epoch, s": lambda row: f"{row['later_epoch_s']:.2f}",
        },
    ),
    "fetch": (
        "The batches of an epoch of W2.",
        {
            "who": lambda row: row["who"],
            "µs a batch": lambda row: f"{row['microseconds_a_batch']:.1f}",
            "ratio": lambda row: f"{row['ratio']:.2f}",
            "gathers a batch (inputs, targets)": lambda row: str(row["gathers_a_batch"]),
        },
    ),
    "map": (
        "A memory-mapped array of four times the memory that the process may take, cold.",
        {
            "who": lambda row: "os.preadv of the same rows, nothing else" if row["who"] == "reads" else "torchflow",
            "MB": lambda row: f"{row['mb']:,.0f}",
            "s an epoch": lambda row: f"{row['seconds']:.2f}",
            "MB/s": lambda row: f"{row['mb_a_second']:.0f}",
        },
    ),
}
